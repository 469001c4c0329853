"""The strong augmentation: every image its own draw, within bounds."""

import torch

from envs.data.strong_augment import _placements, _recoloured, strong_augment


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def test_images_stay_images_and_repeat_with_their_chance():
    images = torch.rand(64, 3, 16, 16, generator=chance(1))
    moved = strong_augment(images, chance())
    assert moved.shape == images.shape
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert torch.equal(moved, strong_augment(images, chance()))
    assert not torch.allclose(moved, strong_augment(images, chance(2)), atol=0.1)


def test_each_image_gets_a_draw_of_its_own():
    same = torch.rand(1, 3, 16, 16, generator=chance(1)).expand(16, -1, -1, -1)
    moved = strong_augment(same, chance())
    apart = torch.cdist(moved.flatten(1), moved.flatten(1))
    assert float(apart[~torch.eye(16, dtype=torch.bool)].min()) > 0.5


def test_placements_keep_within_the_published_ranges():
    maps = _placements(4000, chance())
    mirrored = (torch.linalg.det(maps[:, :, :2]) < 0).double().mean()
    assert 0.45 < float(mirrored) < 0.55
    # area of the crop, 0.8 to 1 of the image, over the square of a scale of 0.9 to 1.1
    areas = torch.linalg.det(maps[:, :, :2]).abs()
    assert 0.6 < float(areas.min()) < 0.75
    assert 1.1 < float(areas.max()) < 1.24
    turned = torch.atan2(maps[:, 1, 0], maps[:, 0, 0].abs()).rad2deg().abs()
    assert 10 < float(turned.max()) < 20  # 15 degrees, and a little by the sides of the crop


def test_a_fifth_of_the_images_becomes_grey():
    images = torch.rand(2000, 3, 4, 4, generator=chance(1))
    colours = _recoloured(images, chance()).std(1).amax((1, 2))
    assert 0.15 < float((colours < 1e-6).double().mean()) < 0.25


def test_grey_images_take_it_too():
    assert strong_augment(torch.rand(8, 1, 8, 8), chance()).shape == (8, 1, 8, 8)
