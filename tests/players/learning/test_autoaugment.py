"""AutoAugment on tensors, against torchvision's operations and its copy of the policy."""

import pytest
import torch
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode, v2

from agents.learning.autoaugment import POLICY, apply, autoaugment
from envs.seeding import Streams

# torchvision shears around the corner of the first pixel, here it is around its centre
NAMES = {name for pair in POLICY for name, _, _ in pair}


def test_the_policy_is_the_published_one():
    theirs = AutoAugment(AutoAugmentPolicy.CIFAR10).policies
    assert len(theirs) == len(POLICY) == 25
    for mine, other in zip(POLICY, theirs, strict=True):
        for (name, odds, strength), (their_name, their_odds, their_strength) in zip(
            mine, other, strict=True
        ):
            assert (name, odds) == (their_name, their_odds)
            assert their_strength in (None, strength)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", sorted(NAMES - {"ShearX", "ShearY"}))
def test_an_operation_is_the_one_of_torchvisions_own_autoaugment(name, sign):
    """The magnitudes of both are those of the same paper."""
    values = (torch.rand(6, 3, 32, 32, generator=Streams(0).torch("x")) * 255).to(torch.uint8)
    values[1] = values[1] // 3 + 60  # stretching has something to do there
    theirs = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)
    spaces = theirs._AUGMENTATION_SPACE[name]
    for strength in (2, 7):
        magnitudes = spaces[0](10, 32, 32)
        magnitude = 0.0 if magnitudes is None else float(magnitudes[strength])
        expected = theirs._apply_image_or_video_transform(
            values, name, sign * magnitude if spaces[1] else magnitude,
            interpolation=InterpolationMode.NEAREST, fill={},
        )  # fmt: skip
        # their magnitudes are float32
        difference = apply(values, name, strength / 9, sign).float() - expected.float()
        assert float(difference.abs().max()) <= 1


@pytest.mark.parametrize("sign", [1, -1])
def test_shearing_moves_each_row_by_its_height(sign):
    values = torch.zeros(1, 1, 9, 9, dtype=torch.uint8)
    values[0, 0, :, 4] = 255  # an upright line
    sheared = apply(values, "ShearX", 1.0, sign)[0, 0]
    columns = [int(row.argmax()) for row in sheared]
    # each pixel is the nearest one
    assert all(abs(column - (4 - sign * 0.3 * y)) < 0.501 for y, column in enumerate(columns))
    assert columns[0] == 4
    assert len(set(columns)) == 3


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 28)])
def test_a_batch_stays_in_8_bits_and_changes(shape):
    images = torch.rand(50, *shape, generator=Streams(1).torch("images"))
    first = autoaugment(images, Streams(2).torch("chance"))
    assert first.shape == images.shape
    assert torch.equal((first * 255).round() / 255, first)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, autoaugment(images, Streams(2).torch("chance")))
    changed = (first - images).abs().flatten(1).amax(1) > 1 / 255
    assert 0.5 < float(changed.float().mean()) <= 1
