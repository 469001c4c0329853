"""Augmentation of whole batches."""

import pytest
import torch

from envs.data.augment import AUGMENTATIONS, _moved, augmentation, crop_flip, shift
from envs.errors import UnknownName


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def column(*values: int) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1)


def test_shifts_and_mirrors_of_a_hand_computed_batch():
    image = torch.tensor([[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    batch = image.expand(4, 1, 3, 3)
    mirrored = column(0, 0, 1, 1).bool()
    moved = _moved(batch, column(0, 1, 0, -1), column(0, -1, 0, 1), mirrored)
    assert moved[0, 0].tolist() == image.tolist()
    assert moved[1, 0].tolist() == [[0, 0, 0], [2, 3, 0], [5, 6, 0]]  # down 1, left 1
    assert moved[2, 0].tolist() == [[3, 2, 1], [6, 5, 4], [9, 8, 7]]
    # up 1 and right 1 is [[0, 4, 5], [0, 7, 8], [0, 0, 0]], then mirrored
    assert moved[3, 0].tolist() == [[5, 4, 0], [8, 7, 0], [0, 0, 0]]


def test_crop_flip_equals_padding_cropping_and_flipping_image_by_image():
    batch = torch.rand((64, 3, 9, 11), generator=generator())
    out = crop_flip(batch, generator(7), 2)
    draws = generator(7)
    offsets = torch.randint(-2, 3, (2, 64, 1), generator=draws)
    coins = torch.randint(2, (64, 1), generator=draws)
    padded = torch.nn.functional.pad(batch, (2, 2, 2, 2))
    for i in range(64):
        down, right = offsets[:, i, 0].tolist()
        crop = padded[i, :, 2 - down : 11 - down, 2 - right : 13 - right]
        assert torch.equal(out[i], crop.flip(2) if coins[i] else crop)


def test_images_are_moved_independently_and_half_of_them_are_mirrored():
    picture = torch.zeros((2000, 1, 9, 9))
    picture[:, :, 4, 4], picture[:, :, 4, 5] = 1.0, 2.0
    out = crop_flip(picture, generator(), 2)
    places = out.flatten(1).argmax(1)
    assert len(places.unique()) == 5 * 7  # rows 2 to 6; columns 3 to 7, or mirrored 1 to 5
    first, second = (out == 1).nonzero()[:, 3], (out == 2).nonzero()[:, 3]
    assert 0.45 < float((first > second).float().mean()) < 0.55


def test_digits_are_never_mirrored():
    picture = torch.zeros((500, 1, 8, 8))
    picture[:, :, 3, 3], picture[:, :, 3, 4] = 1.0, 2.0
    out = shift(picture, generator(), 1)
    assert ((out == 2).nonzero()[:, 3] - (out == 1).nonzero()[:, 3] == 1).all()
    assert len(out.flatten(1).argmax(1).unique()) == 9


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_augmentation_keeps_shape_dtype_input_and_the_global_stream(
    name: str, dtype: torch.dtype
):
    batch = torch.randint(256, (16, 3, 8, 8), generator=generator()).to(dtype)
    before, state = batch.clone(), torch.get_rng_state()
    one, two = (augmentation(name)(batch, generator(3)) for _ in range(2))
    assert one.shape == batch.shape
    assert one.dtype == dtype
    assert torch.equal(one, two)
    assert torch.equal(batch, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_misspelt_augmentation_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'crop-flip'"):
        augmentation("cropflip")
