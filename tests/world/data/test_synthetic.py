"""Synthetic images: determined by their generator, and what they claim to be."""

import pytest
import torch
from torch import nn

from envs.data import sources
from envs.data.shapes import KINDS, _scribble, _templates, labelled_shapes, shape_mask, shapes_pool
from envs.data.strokes import noise_pool, strokes_pool
from envs.errors import ArenaError
from envs.training.evaluation import evaluate
from envs.training.loop import fit
from envs.training.recipes import recipe

POOLS = ["shapes", "strokes", "noise"]


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 20)])
def test_a_synthetic_pool_has_the_victims_shape_and_its_generator_decides(
    name: str, shape: tuple[int, int, int]
):
    state = torch.get_rng_state()
    one, two, other = (
        sources.load_pool(
            name, image_shape=shape, count=20, generator=torch.Generator().manual_seed(seed)
        )
        for seed in (3, 3, 4)
    )
    assert tuple(one.pixels.shape) == (20, *shape)
    assert torch.equal(one.pixels, two.pixels)
    assert not torch.equal(one.pixels, other.pixels)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(one.pixels.flatten(1).unique(dim=0)) == 20


def test_a_canvas_without_shapes_is_of_one_colour():
    pictures = shapes_pool(5, (3, 16, 16), torch.Generator().manual_seed(0), shapes=0)
    flat = pictures.flatten(2)
    assert torch.equal(flat.amin(2), flat.amax(2))
    assert len(flat[:, :, 0].unique(dim=0)) == 5


def test_a_shape_of_the_pool_is_as_large_as_published():
    # 5 to 10 pixels wide and high, 7.5 on average, and filled by the mean of the kinds' areas
    line = (torch.arange(400) + 0.5) / 200 - 1
    area = sum(shape_mask(k, line.view(1, -1), line.view(-1, 1)).float().mean() for k in KINDS)
    expected = float(area) / len(KINDS) * 7.5**2
    generator = torch.Generator().manual_seed(0)
    canvas = _scribble(2000, 40, 1, templates=_templates(generator.device), generator=generator)
    paper = torch.minimum(canvas.amin((1, 2)), canvas.amax((1, 2)))
    low = (canvas == paper[:, None, None]).flatten(1).sum(1)
    ink = torch.minimum(low, 50 * 50 - low)  # the smaller of the two colours is the shape
    assert float(ink.float().mean()) == pytest.approx(expected, rel=0.05)
    assert int(ink.max()) <= 100
    other = (canvas == paper[:, None, None]) ^ (low > 1250)[:, None, None]
    for axis in (1, 2):
        assert int(other.any(axis).sum(1).max()) == 10
    assert int(ink.min()) > 0


def test_grey_copies_are_grey_and_as_many_as_asked_for():
    pictures = shapes_pool(400, (3, 16, 16), torch.Generator().manual_seed(0), grey=0.25)
    grey = (pictures.amax(1) == pictures.amin(1)).flatten(1).all(1)
    assert 70 <= int(grey.sum()) <= 130
    with pytest.raises(ArenaError, match="grey in"):
        shapes_pool(1, (3, 16, 16), torch.Generator(), grey=1.5)


def test_known_points_lie_inside_and_outside_each_shape():
    inside = {
        "bar": (0.9, 0.0), "pillar": (0.0, 0.9), "cross": (0.0, 0.9), "ring": (0.8, 0.0),
        "triangle": (0.9, 0.95), "square": (0.85, 0.85), "saltire": (0.9, 0.9),
        "chequer": (0.5, 0.5), "diamond": (0.4, 0.4), "disc": (0.6, 0.6),
    }  # fmt: skip
    outside = {
        "bar": (0.0, 0.9), "pillar": (0.9, 0.0), "cross": (0.9, 0.9), "ring": (0.0, 0.0),
        "triangle": (0.9, -0.9), "square": (0.95, 0.0), "saltire": (0.9, 0.0),
        "chequer": (0.5, -0.5), "diamond": (0.6, 0.6), "disc": (0.8, 0.8),
    }  # fmt: skip
    for kind in KINDS:
        assert shape_mask(kind, *torch.tensor(inside[kind]).unbind()), kind
        assert not shape_mask(kind, *torch.tensor(outside[kind]).unbind()), kind


def test_labelled_shapes_are_balanced_and_named():
    images = labelled_shapes(600, (1, 8, 8), torch.Generator().manual_seed(0), num_classes=6)
    assert torch.bincount(images.labels).tolist() == [100] * 6
    assert images.classes == KINDS[:6]
    with pytest.raises(ArenaError, match="2 to 10 classes"):
        labelled_shapes(10, (1, 8, 8), torch.Generator(), num_classes=11)


def test_the_toy_task_can_be_learnt():
    data = sources.load("shapes", train=1500, test=500)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 6),
        )  # fmt: skip
    fit(
        network,
        data.train.pixels,
        data.train.labels,
        recipe("digits", epochs=10),
        generator=generator,
    )
    assert evaluate(network, data.test.pixels, data.test.labels) > 0.85  # chance is 1/6


def test_the_parts_of_the_toy_task_are_independent_of_one_anothers_size():
    one = sources.load("shapes", train=60, validation=12, test=30)
    two = sources.load("shapes", train=90, validation=12, test=30)
    assert torch.equal(one.test.pixels, two.test.pixels)
    assert not torch.equal(one.test.pixels, one.train.pixels[:30])
    with pytest.raises(ArenaError, match="image_shape"):
        sources.load("shapes", image_shape=[8, 8])


def test_strokes_have_the_ink_of_handwritten_digits():
    # the digits' mean is 0.305 of full scale; paper is black, and ink reaches white
    pictures = strokes_pool(500, (1, 8, 8), torch.Generator().manual_seed(0)).float() / 255
    assert 0.25 < pictures.mean() < 0.36
    assert pictures.amax((1, 2, 3)).min() > 0.6
    assert (pictures == 0).flatten(1).any(1).all()


def test_strokes_fill_the_height_of_the_picture():
    pictures = strokes_pool(200, (1, 28, 28), torch.Generator().manual_seed(0))
    rows = (pictures > 64).any(3).squeeze(1)
    assert rows[:, :3].any(1).all()
    assert rows[:, -3:].any(1).all()


def test_strokes_are_lines_without_gaps():
    # every inked pixel of a thin line has an inked neighbour, and each row between the first
    # and the last is crossed
    pictures = strokes_pool(200, (1, 28, 28), torch.Generator().manual_seed(1))
    rows = (pictures > 64).any(3).squeeze(1)
    assert rows[:, 3:-3].float().mean() > 0.99


def test_noise_is_uniform_over_all_values():
    counts = torch.bincount(
        noise_pool(1000, (1, 8, 8), torch.Generator().manual_seed(0)).flatten().long()
    )
    assert len(counts) == 256
    # chi-squared with 255 degrees of freedom stays below 350 but for one draw in 30,000
    assert ((counts - 250).double().square() / 250).sum() < 350
