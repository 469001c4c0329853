"""The five parts of a data set: who gets which images, and that no image is in two of them."""

import pytest
import torch

from envs.data import sources
from envs.data.images import PARTS, SCORED, ImageSet
from envs.data.splits import make_splits
from envs.errors import ArenaError

RULE = {0: 0, 1: 0, 2: 0, 3: 1, 9: 1, 10: 2, 600: 120, 4999: 999, 5000: 1000, 10_000: 1000}


def numbered(count: int, first: int = 0, classes: int = 4) -> ImageSet:
    """Make images that hold their own number."""
    numbers = torch.arange(first, first + count)
    pixels = torch.stack((numbers % 256, numbers // 256), 1).to(torch.uint8).view(count, 1, 1, 2)
    return ImageSet(pixels, numbers % classes, classes, "numbers", tuple("abcd")[:classes])


def numbers_of(images: ImageSet) -> list[int]:
    return (images.pixels[:, 0, 0].int() @ torch.tensor([1, 256], dtype=torch.int32)).tolist()


@pytest.mark.parametrize(("tested", "share"), RULE.items())
def test_a_fifth_and_at_most_1000_test_images_go_to_users_and_as_many_to_checkpoints(tested, share):
    splits = make_splits("numbers", (numbered(8), numbered(0), numbered(tested, 8)))
    sizes = {name: len(part) for name, part in splits.parts.items()}
    assert sizes == {"train": 8, "validation": 0, "benign": share, "checkpoint": share,
                     "test": tested - 2 * share}  # fmt: skip


def test_no_image_is_in_two_parts_and_none_is_lost():
    splits = make_splits("numbers", (numbered(40), numbered(20, 40), numbered(100, 60)))
    assert tuple(splits.parts) == PARTS
    seen = [number for part in splits.parts.values() for number in numbers_of(part)]
    assert sorted(seen) == list(range(160))
    assert sorted(numbers_of(splits.held_out)) == list(range(60, 160))


@pytest.mark.parametrize("part", ["benign", *SCORED])
def test_the_parts_of_the_test_images_are_stratified_and_keep_their_labels(part):
    images = make_splits("numbers", (numbered(8), numbered(4), numbered(100, 12))).parts[part]
    assert torch.bincount(images.labels).tolist() == [len(images) // 4] * 4
    assert images.labels.tolist() == [number % 4 for number in numbers_of(images)]


def test_the_division_is_this_one_for_ever():
    splits = make_splits("numbers", (numbered(8), numbered(4), numbered(20, 12)))
    assert numbers_of(splits.benign) == [18, 25, 28, 31]
    assert numbers_of(splits.checkpoint) == [15, 17, 20, 26]


@pytest.mark.parametrize("tested", [1, 2])
def test_too_few_images_for_users_checkpoints_and_score_are_refused(tested):
    with pytest.raises(ArenaError, match=rf"has {tested} test images; expected at least 3"):
        sources.load("shapes", train=12, validation=6, test=tested)
    assert len(sources.load("shapes", train=12, validation=6, test=3).test) == 1


def test_a_defender_owns_training_and_validation_images_alone():
    owned = sources.load("digits").of_defender()
    assert [len(part) for part in owned.parts.values()] == [897, 300, 0, 0, 0]
