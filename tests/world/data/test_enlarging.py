"""Pools that crops and mixes make larger."""

import pytest
import torch

from envs.data import sources
from envs.data.enlarging import enlarged
from envs.data.images import ImageSet
from envs.errors import ArenaError


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=5, size=8):
    """A white square moves over black images; each has a class of its own."""
    pixels = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    for number in range(count):
        pixels[number, 0, number : number + 3, number : number + 3] = 200
    labels = torch.arange(count)
    return ImageSet(pixels, labels, count, "squares", tuple(map(str, range(count))))


def test_what_is_there_comes_first_and_as_it_is():
    few = images()
    many = enlarged(few, 400, draw())

    assert len(many) == 400
    assert torch.equal(many.pixels[:5], few.pixels)
    assert torch.equal(many.labels[:5], few.labels)
    assert len(torch.unique(many.pixels.flatten(1), dim=0)) > 300
    assert len(enlarged(few, 3, draw())) == 5


def test_the_same_seed_makes_the_same_images_and_another_others():
    one, two, three = (enlarged(images(), 50, draw(seed)).pixels for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_a_mix_is_mostly_the_image_whose_label_it_keeps():
    few = images()
    mixes = enlarged(few, 405, draw())
    pixels, labels = mixes.pixels[205:].float(), mixes.labels[205:]
    near = (pixels[:, None] - few.pixels[None].float()).flatten(2).abs().sum(2)
    assert (near.argmin(1) == labels).float().mean() > 0.95


def test_a_crop_shows_a_part_and_every_second_one_is_mirrored():
    whole = torch.arange(8, dtype=torch.uint8).view(1, 1, 1, 8).expand(1, 3, 8, 8) * 30
    ramp = ImageSet(whole.contiguous(), torch.zeros(1, dtype=torch.int64), 1, "ramp", ("0",))
    crops = enlarged(ramp, 401, draw()).pixels[1:201].float()
    rise = crops[..., -1].mean((1, 2)) - crops[..., 0].mean((1, 2))

    assert 60 < (rise < 0).sum() < 140
    assert rise.abs().max() <= 210  # no crop shows more than the image
    assert rise.abs().min() >= 0.5 * 210  # nor less than 0.6 of it
    assert rise.abs().std() > 5


def test_a_pool_is_enlarged_where_it_is_asked_for_more_than_there_is():
    options = {"image_shape": (1, 8, 8), "split": "validation"}
    few = sources.load_pool("digits", generator=draw(), **options)
    many = sources.load_pool(
        "digits", generator=draw(), count=len(few) + 10, enlarge=True, **options
    )
    assert torch.equal(many.pixels[: len(few)], few.pixels)
    assert len(many) == len(few) + 10
    fewer = sources.load_pool("digits", generator=draw(), count=10, enlarge=True, **options)
    assert len(fewer) == 10
    with pytest.raises(ArenaError, match="enlarge = true"):
        sources.load_pool("digits", generator=draw(), count=len(few) + 10, **options)


def test_a_set_without_images_is_refused():
    with pytest.raises(ArenaError, match="expected images to crop and mix"):
        enlarged(images().select(torch.zeros(5, dtype=torch.bool)), 10, draw())
