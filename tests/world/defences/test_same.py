"""SAME used to mislead: the score, the autoencoder behind it, and who gets which answer."""

import math

import pytest
import torch

from envs.data.images import ImageSet
from envs.defences.same import Same, misleading, score
from envs.errors import ScenarioError
from envs.nets.exit_cost import macs_of
from envs.nets.masked_autoencoder import MaskedAutoencoder
from envs.training.reconstruction import rate_factor, restored, train_autoencoder

BRIEF = {
    "patch": 4, "width": 6, "encoder": 1, "decoder": 1, "mask": 0.25, "epochs": 40, "batch": 32,
    "learning_rate": 0.02, "classifier_epochs": 2,
}  # fmt: skip
TINY = {"patch": 2, "width": 12, "encoder": 2, "decoder": 1, "heads": 3}


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_published_examples_of_the_score():
    errors, y = rows(0.04, 0.04), rows([0.7, 0.2, 0.1], [0.7, 0.2, 0.1])
    read = rows([0.7, 0.2, 0.1], [0.1, 0.2, 0.7])
    found = score(errors, y, read, 0.99)
    assert found.tolist() == pytest.approx([0.0396, 0.0435], abs=5e-5)
    assert float(score(errors, y, read, 0.5)[1]) == pytest.approx(0.2146, abs=5e-5)


def test_a_misleading_answer_never_has_the_clean_label_first():
    torch.manual_seed(0)
    clean = torch.zeros(3000, 3, dtype=torch.float64)
    clean[:, 2] = 1.0
    drawn = misleading(clean, torch.rand(3000, 4, dtype=torch.float64))
    torch.testing.assert_close(drawn.sum(1), torch.ones(3000).double())
    firsts = torch.bincount(drawn.argmax(1), minlength=3)
    assert int(firsts[2]) == 0
    assert 1400 < int(firsts[0]) < 1600  # each of the others half of the time
    # the entries are those of a uniform draw: the largest of three is 11/18 on average
    assert float(drawn.amax(1).mean()) == pytest.approx(11 / 18, abs=0.01)


def autoencoder(shape=(1, 8, 8), seed=0):
    return MaskedAutoencoder(shape, **TINY, generator=torch.Generator().manual_seed(seed))


def test_hidden_patches_do_not_reach_the_reconstruction():
    network, images = autoencoder(), torch.rand(2, 1, 8, 8)
    order = torch.stack([torch.randperm(16), torch.randperm(16)])
    changed = images.clone().unfold(2, 2, 2).unfold(3, 2, 2).reshape(2, 16, 4).clone()
    for row in range(2):
        changed[row, order[row, 4:]] = 0.5
    changed = changed.reshape(2, 4, 4, 2, 2).permute(0, 1, 3, 2, 4).reshape(2, 1, 8, 8)
    with torch.no_grad():
        seen, other = network(images, order, 4), network(changed, order, 4)
        assert torch.equal(seen, other)
        assert not torch.allclose(network(images), network(changed))
        # nothing is hidden: the order does not matter
        torch.testing.assert_close(network(images, order, 16), network(images))


def test_an_image_is_restored_alike_alone_and_among_others():
    network, images = autoencoder((3, 8, 8)), torch.rand(5, 3, 8, 8)
    whole, errors = restored(network, images)
    one, error = restored(network, images[3:4])
    torch.testing.assert_close(one[0], whole[3])
    torch.testing.assert_close(error[0], errors[3])
    assert whole.shape == images.shape


def test_the_autoencoder_learns_to_restore_its_own_images(digits_world):
    own = digits_world.data.train
    assert isinstance(own, ImageSet)
    shape, chance = own.image_shape, torch.Generator().manual_seed(0)
    layers = {name: BRIEF.get(name, TINY[name]) for name in TINY}
    network = MaskedAutoencoder(shape, **layers, generator=chance)
    before = restored(network, own.images())[1].mean()
    train_autoencoder(
        network, own, mask=0.25, epochs=40, learning_rate=0.02, batch=32, generator=chance
    )
    after = restored(network, own.images())[1].mean()
    assert float(after) < 0.5 * float(before)
    assert not network.training


def test_the_rate_rises_for_a_tenth_and_falls_along_a_cosine():
    """50 of 500 epochs as published."""
    assert rate_factor(0, 500) == pytest.approx(0.02)
    assert rate_factor(24, 500) == pytest.approx(0.5)
    assert rate_factor(250, 500) == pytest.approx(0.5)
    assert rate_factor(499, 500) < 1e-4


def hardened(world, **params):
    defence = Same(**{**BRIEF, **params})
    return defence, defence.harden(world.victim(), world.kit())


@pytest.mark.parametrize("response", ["random", "misinformation"])
def test_digits_in_white_on_black_are_answered_and_others_are_misled(digits_world, response):
    defence, victim = hardened(digits_world, response=response)
    digits = digits_world.data.test.images(slice(0, 100))
    images = torch.cat((digits, 1 - digits))
    served = digits_world.serve(defence, victim, images).posteriors
    clean = digits_world.clean(images)
    changed = (served - clean).abs().sum(1) > 1e-4
    assert float(changed[:100].double().mean()) < 0.2
    assert float(changed[100:].double().mean()) > 0.9
    if response == "random":
        assert (served.argmax(1) != clean.argmax(1))[changed].all()


def test_the_limit_is_the_stated_quantile_of_held_out_images(digits_world):
    defence, victim = hardened(digits_world, suspected=0.1)
    held_out = digits_world.data.validation.images()
    scores = defence.scores(held_out, victim.posteriors(held_out).double())
    assert float((scores > defence.limit).double().mean()) == pytest.approx(0.1, abs=0.02)


def test_one_in_two_suspects_is_misled_at_a_half(digits_world):
    defence, victim = hardened(digits_world, suspected=1.0, misled=0.5)
    images = digits_world.data.test.images()
    served = digits_world.serve(defence, victim, images).posteriors
    changed = (served - digits_world.clean(images)).abs().sum(1) > 1e-4
    assert 0.35 < float(changed.double().mean()) < 0.65
    again = digits_world.serve(defence, victim, images, seed=1).posteriors
    assert torch.equal(served, again)  # chance is keyed by the image
    other, _ = hardened(digits_world, suspected=1.0, misled=0.5, randomness="fresh")
    one, two = (digits_world.serve(other, victim, images, seed=s).posteriors for s in (0, 1))
    assert not torch.equal(one, two)


def test_every_network_that_runs_is_counted(digits_world):
    defence, victim = hardened(digits_world, epochs=0, classifier_epochs=0)
    whole = victim.profile.macs[-1]
    tokens, width = 5, 6  # four patches of 16 pixels, and the whole
    block = tokens * 12 * width**2 + 2 * tokens**2 * width
    ends = 4 * 16 * width * 2  # patches in and out
    assert defence.overhead_macs == whole + 2 * block + ends
    lying, _ = hardened(digits_world, epochs=0, classifier_epochs=0, response="misinformation")
    assert lying.overhead_macs == defence.overhead_macs + whole
    assert macs_of(autoencoder(), (1, 8, 8)) > 0


def test_odd_values_are_told():
    with pytest.raises(ValueError, match="'misled' from 0 to 1, got 2"):
        Same(misled=2.0)
    with pytest.raises(ValueError, match="a mask from 0 to below 1"):
        Same(mask=1.0)
    with pytest.raises(ValueError, match="'random' or 'misinformation', got 'silence'"):
        Same(response="silence")


@pytest.mark.parametrize(
    ("params", "line"),
    [({"patch": 3}, "divides the sides of 8x8 images, got 3"),
     ({"width": 20}, "a multiple of 3 heads, got 20")],
)  # fmt: skip
def test_an_autoencoder_that_does_not_fit_is_told_in_one_line(digits_world, params, line):
    with pytest.raises(ScenarioError, match=line):
        hardened(digits_world, **params)


def test_the_width_of_the_published_autoencoder():
    """12 and 4 blocks of 192 on 256 patches: 7.2 million weights."""
    network = MaskedAutoencoder(
        (3, 32, 32), patch=2, width=192, encoder=12, decoder=4, heads=3, generator=torch.Generator()
    )
    per_block = 12 * 192**2 + 13 * 192
    ends = 192 * 12 + 192 + 12 * 192 + 12 + 2 * 192 + 2 * 192 + (256 + 257) * 192
    assert sum(weight.numel() for weight in network.parameters()) == 16 * per_block + ends
    assert math.isclose(16 * per_block, 7.1e6, rel_tol=0.01)
