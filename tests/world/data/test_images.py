"""Sets of images, their division, and their shapes."""

import pytest
import torch
from torch import Tensor

from envs.data.images import ImageSet, bytes_to_unit, fingerprint, to_pixels
from envs.data.resize import fit_to, pad_to
from envs.data.splits import divide, hold_out, make_splits, stable_order
from envs.errors import ArenaError


def small_set(count: int = 10, classes: int = 2) -> ImageSet:
    pixels = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
    names = tuple(f"class{k}" for k in range(classes))
    return ImageSet(pixels, torch.arange(count) % classes, classes, "small", names)


def ids(images: Tensor) -> list[int]:
    """Recover which images of `small_set` these are from their first pixel."""
    return (images[:, 0, 0, 0] * 255 / 4).round().int().tolist()


def test_every_8_bit_value_survives_the_way_to_floats_and_back():
    pixels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_pixels(bytes_to_unit(pixels)), pixels)
    assert bytes_to_unit(pixels).min() == 0
    assert bytes_to_unit(pixels).max() == 1


def test_a_shuffled_epoch_shows_every_image_once_with_its_own_label():
    images = small_set(10)
    seen = []
    for batch, labels in images.batches(3, torch.Generator().manual_seed(1)):
        assert batch.dtype == torch.float32
        assert [i % 2 for i in ids(batch)] == labels.tolist()
        seen += ids(batch)
    assert sorted(seen) == list(range(10))
    assert seen != list(range(10))


def test_the_generator_alone_decides_the_order():
    state = torch.get_rng_state()
    first, second = (
        [ids(b) for b, _ in small_set().batches(4, torch.Generator().manual_seed(5))]
        for _ in range(2)
    )
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_generator_batches_keep_the_order_and_the_remainder_can_be_dropped():
    assert [ids(b) for b, _ in small_set(5).batches(2)] == [[0, 1], [2, 3], [4]]
    assert [ids(b) for b, _ in small_set(5).batches(2, drop_last=True)] == [[0, 1], [2, 3]]


def test_mean_and_deviation_of_a_hand_computed_set():
    # channel 0 is 0 and 255 in equal shares: mean 1/2, deviation 1/2; channel 1 is constant
    pixels = torch.tensor([[[[0, 255]], [[51, 51]]]], dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(1, dtype=torch.int64), 1, "two", ("only",))
    mean, std = images.mean_std()
    assert mean == pytest.approx((0.5, 0.2))
    assert std == pytest.approx((0.5, 1 / 255))  # not 0: a victim divides by it


def test_moments_agree_with_floating_point_on_random_images():
    pixels = torch.randint(
        256, (50, 3, 7, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    images = ImageSet(pixels, torch.zeros(50, dtype=torch.int64), 1, "random", ("only",))
    mean, std = images.mean_std()
    unit = images.images().double()
    assert mean == pytest.approx(unit.mean((0, 2, 3)).tolist(), abs=1e-7)
    assert std == pytest.approx(unit.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


@pytest.mark.parametrize("change", ["dtype", "labels", "names"])
def test_a_set_that_does_not_fit_together_is_refused(change: str):
    good = small_set()
    pixels = good.pixels.float() if change == "dtype" else good.pixels
    labels = good.labels[1:] if change == "labels" else good.labels
    names = ("one",) if change == "names" else good.classes
    with pytest.raises(ValueError, match=r"expected|class names"):
        ImageSet(pixels, labels, 2, "bad", names)


def test_a_fingerprint_tells_one_pixel_one_label_and_the_border_between_parts():
    images = small_set()
    pixel, label = images.pixels.clone(), images.labels.clone()
    pixel[3, 0, 1, 1] += 1
    label[3] = 0
    variants = [
        (images,),
        (ImageSet(pixel, images.labels, 2, "small", images.classes),),
        (ImageSet(images.pixels, label, 2, "small", images.classes),),
        (images.select(slice(0, 4)), images.select(slice(4, 10))),
        (images.select(slice(0, 6)), images.select(slice(6, 10))),
    ]
    assert len({fingerprint(*parts) for parts in variants}) == len(variants)
    assert fingerprint(images) == fingerprint(small_set())


def test_splits_measure_their_normalisation_on_the_training_images_alone():
    images = small_set()
    train = images.select(slice(0, 5))
    splits = make_splits("small", (train, images.select(slice(5, 7)), images.select(slice(7, 10))))
    assert (splits.mean, splits.std) == train.mean_std()
    assert splits.image_shape == (1, 2, 2)
    assert splits.num_classes == 2


def test_the_stable_order_is_this_permutation_for_ever():
    assert stable_order(8, 0).tolist() == [4, 0, 6, 7, 2, 1, 5, 3]
    assert stable_order(8, 1).tolist() != stable_order(8, 0).tolist()


def test_a_hold_out_is_exact_disjoint_and_stratified_to_within_one_image():
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate((101, 50, 7, 200))])
    kept, held = hold_out(labels, 77, 3)
    assert sorted(kept.tolist() + held.tolist()) == list(range(358))
    assert len(held) == 77
    share = torch.bincount(labels[held], minlength=4) - torch.bincount(labels) * 77 / 358
    assert share.abs().max() < 1


def test_nothing_and_everything_can_be_held_out_but_not_more():
    labels = torch.arange(6) % 2
    assert [len(p) for p in hold_out(labels, 0, 0)] == [6, 0]
    assert [len(p) for p in hold_out(labels, 6, 0)] == [0, 6]
    with pytest.raises(ArenaError, match="hold out 7 of 6"):
        hold_out(labels, 7, 0)


def test_a_division_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ArenaError, match="leave none to train on"):
        divide(small_set(10), validation=5, test=5, seed=0)


def test_grey_is_the_luma_of_colour_and_colour_repeats_grey():
    red_green_blue = torch.tensor([255, 100, 10], dtype=torch.uint8).view(1, 3, 1, 1)
    grey = fit_to(red_green_blue.expand(1, 3, 4, 4), (1, 4, 4))
    assert grey.unique().tolist() == [136]  # 0.299 * 255 + 0.587 * 100 + 0.114 * 10 = 136.1
    assert torch.equal(fit_to(grey, (3, 4, 4)), grey.expand(1, 3, 4, 4))


def test_resizing_is_antialiased_and_keeps_flat_images_flat():
    stripes = torch.zeros((1, 1, 32, 32), dtype=torch.uint8)
    stripes[..., ::2] = 200
    small = fit_to(stripes, (1, 8, 8)).float()
    assert (small[..., 1:-1] - 100).abs().max() <= 1  # picking pixels would give 0 or 200
    flat = torch.full((2, 3, 10, 10), 77, dtype=torch.uint8)
    assert fit_to(flat, (1, 28, 28)).unique().tolist() == [77]


def test_images_that_fit_are_handed_back_as_they_are():
    pixels = small_set().pixels
    assert fit_to(pixels, (1, 2, 2)) is pixels


def test_channels_that_mean_something_else_are_refused():
    with pytest.raises(ArenaError, match="2 channels into 3"):
        fit_to(torch.zeros((1, 2, 4, 4), dtype=torch.uint8), (3, 4, 4))


def test_padding_keeps_every_pixel_in_the_middle():
    pixels = torch.randint(1, 256, (3, 1, 8, 8), dtype=torch.uint8)
    padded = pad_to(pixels, 28)
    assert torch.equal(padded[:, :, 10:18, 10:18], pixels)
    assert int((padded > 0).sum()) == 3 * 64
    with pytest.raises(ArenaError, match="at least 8"):
        pad_to(pixels, 7)
