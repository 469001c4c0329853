"""Sources of OOD images: what they promise to whoever trains on them."""

import pytest
import torch

from envs.data.digits import digits_splits
from envs.errors import ScenarioError, UnknownName
from envs.training.ood import FixedBatch, Mixture, ood_source, source_weights
from envs.training.ood_sources import (
    SOURCES,
    Material,
    RandomGenerators,
    _stretched,
    shuffled_patches,
)

DIGITS = digits_splits().train


def _material(seed=0, **options):
    return Material(DIGITS, torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_draws_fresh_repeatable_images_in_range(name):
    before = torch.random.get_rng_state()
    first, again = ood_source(name, _material()), ood_source(name, _material())
    batch, other = first(24), first(24)
    assert batch.shape == (24, 1, 8, 8)
    assert batch.dtype == torch.float32
    assert 0 <= float(batch.min()) <= float(batch.max()) <= 1
    assert torch.equal(batch, again(24))
    assert not torch.equal(batch, other)
    assert len(batch.flatten(1).unique(dim=0)) > 20  # not one image over and over
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", sorted(SOURCES))
def test_a_source_serves_colour_images_of_other_sizes(name):
    pixels = torch.randint(256, (10, 3, 32, 32), dtype=torch.uint8)
    colour = type(DIGITS)(pixels, torch.zeros(10, dtype=torch.int64), 1, "x", ("x",))
    draw = ood_source(name, Material(colour, torch.Generator().manual_seed(0)))
    assert draw(1).shape == (1, 3, 32, 32)


def test_shuffled_pixels_keep_nothing_but_the_histogram():
    images = ood_source("pixel-shuffle", _material())(50)
    known = {tuple(row) for row in DIGITS.images().flatten(1).sort(1).values.tolist()}
    assert all(tuple(row) in known for row in images.flatten(1).sort(1).values.tolist())


def test_shuffled_patches_keep_the_patches_whole():
    images = shuffled_patches(_material(), side=4)(20)
    tiles = images.reshape(20, 2, 4, 2, 4).permute(0, 1, 3, 2, 4).reshape(20, 4, 16)
    own = DIGITS.images().reshape(-1, 2, 4, 2, 4).permute(0, 1, 3, 2, 4).reshape(-1, 4, 16)
    known = {tuple(sorted(map(tuple, image))) for image in own.tolist()}
    assert all(tuple(sorted(map(tuple, image))) in known for image in tiles.tolist())


def test_spliced_images_are_halves_of_two():
    images, own = ood_source("spliced", _material())(40), DIGITS.images()

    def whole(part):
        known = {tuple(row) for row in part(own).flatten(1).tolist()}
        return torch.tensor([tuple(row) in known for row in part(images).flatten(1).tolist()])

    beside = whole(lambda x: x[:, :, :, :4]) & whole(lambda x: x[:, :, :, 4:])
    below = whole(lambda x: x[:, :, :4]) & whole(lambda x: x[:, :, 4:])
    assert bool((beside | below).all())
    assert 5 < int(beside.sum()) < 35


def test_principal_noise_has_the_covariance_of_the_training_images():
    drawn = ood_source("principal", _material())(4000).flatten(1)
    own = DIGITS.images().flatten(1)
    assert float((drawn.mean(0) - own.mean(0)).abs().max()) < 0.08  # clipping moves it a little
    assert (
        float(torch.corrcoef(torch.stack([drawn.T.cov().flatten(), own.T.cov().flatten()]))[0, 1])
        > 0.95
    )


def test_three_images_are_mixed_by_weights_that_sum_to_one():
    images = ood_source("mixup", Material(DIGITS.select(slice(0, 1)), torch.Generator()))(5)
    torch.testing.assert_close(images, DIGITS.images(slice(0, 1)).repeat(5, 1, 1, 1))
    images = ood_source("mixup", _material())(500)
    # the mean of three variances, each a mixture's weight squared, of 1/6 on the average
    share = float(images.var(0).sum() / DIGITS.images().var(0).sum())
    assert share == pytest.approx(3 / 6, abs=0.05)


def test_smooth_noise_is_stretched_between_its_two_ends():
    images = torch.tensor([1.0, 2.0, 4.0, 5.0]).repeat(2, 1).view(2, 1, 2, 2)
    found = _stretched(images, torch.tensor([[0.1, 0.9], [0.5, 0.1]]))
    expected = torch.tensor([[0.1, 0.2, 0.4, 0.5], [0.9, 0.7, 0.3, 0.1]]).view(2, 1, 2, 2)
    torch.testing.assert_close(found, expected)


def test_turned_images_are_training_images_turned():
    known = {tuple(row) for row in DIGITS.images().flatten(1).tolist()}
    for image in ood_source("turned", _material())(20):
        ways = [image.flip(1), image.flip(2), image.rot90(1, (1, 2)), image.rot90(3, (1, 2))]
        assert any(tuple(way.flatten().tolist()) in known for way in ways)


def test_a_mixture_keeps_its_weights_over_batches_of_any_size():
    draws = [lambda n, value=value: torch.full((n, 1), float(value)) for value in range(3)]
    mixture = Mixture(draws, [0.5, 0.3, 0.2])
    drawn = torch.cat([mixture(size) for size in (1, 3, 7, 2, 64, 1, 1, 21)])
    assert drawn.flatten().long().bincount().tolist() == [50, 30, 20]


def test_weights_by_name_become_shares():
    assert source_weights({"uniform": 3, "smooth": 1}) == {"uniform": 0.75, "smooth": 0.25}
    assert source_weights("uniform") == {"uniform": 1.0}
    assert source_weights(["uniform", "smooth"]) == {"uniform": 0.5, "smooth": 0.5}


@pytest.mark.parametrize("spec", [[], {"uniform": 0}, {"uniform": -1}])
def test_a_mixture_without_weight_is_refused(spec):
    with pytest.raises(ScenarioError, match="weights above 0"):
        ood_source(spec, _material())


def test_an_unknown_source_gets_a_suggestion():
    with pytest.raises(UnknownName, match="did you mean 'smooth'"):
        ood_source("smoth", _material())


def test_other_names_are_data_sets_of_the_match():
    asked = []

    def load_pool(name, *, generator):
        asked.append(name)
        return DIGITS

    images = ood_source("letters", _material(load_pool=load_pool))(16)
    known = {tuple(row) for row in DIGITS.images().flatten(1).tolist()}
    assert asked == ["letters"]
    assert all(tuple(row) in known for row in images.flatten(1).tolist())


def test_a_fixed_batch_is_drawn_once():
    draw = FixedBatch(ood_source("uniform", _material()))
    assert torch.equal(draw(16), draw(16))
    assert torch.equal(draw(16)[:4], draw(4))


def test_a_generator_gets_new_weights_when_its_batches_are_over():
    source = RandomGenerators(_material(), every=2)
    weights = []
    for _ in range(4):
        source(8)
        weights.append(source._network.project.weight.clone())
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[2], weights[3])
    assert not torch.equal(weights[1], weights[2])
