"""The cheap baselines: reverse sigmoid, adaptive misinformation, truncation."""

import math

import pytest
import torch

from envs.defences.adaptive_misinformation import (
    AdaptiveMisinformation,
    OutlierExposure,
    misinformed,
    miss_the_label,
)
from envs.defences.reverse_sigmoid import ReverseSigmoid
from envs.defences.truncation import Truncation, largest, rounded


def posteriors(count, classes, concentration=0.3, seed=0):
    torch.manual_seed(seed)
    alpha = torch.full((classes,), concentration, dtype=torch.float64)
    return torch.distributions.Dirichlet(alpha).sample((count,))


def served_by(world, defence):
    return world.serve(defence, defence.harden(world.victim(), world.kit())).posteriors


def test_reverse_sigmoid_by_hand(digits_world):
    """y = (0.9, 0.1), gamma 1: the wave is y - 1/2, so that y' ~ y - beta (y - 1/2)."""
    defence = ReverseSigmoid(beta=0.5, gamma=1.0)
    clean = torch.tensor([[0.9, 0.1]]).double()

    class Serving:
        strength = 1.0

    expected = torch.tensor([[0.7, 0.3]]).double()
    torch.testing.assert_close(defence.perturb(clean, Serving()), expected)


def test_reverse_sigmoid_without_beta_is_the_identity(digits_world):
    served = served_by(digits_world, ReverseSigmoid(beta=0.0))
    torch.testing.assert_close(served, digits_world.clean(), atol=1e-7, rtol=0)


def test_reverse_sigmoid_with_a_small_beta_keeps_the_order_of_classes(digits_world):
    """The wave is steep at 0, where y^gamma is; 0.008 and 0.2 keep the order above 0.001."""
    clean = posteriors(2000, 10, 1.0)
    clean = clean[clean.amin(1) > 1e-3]
    defence = ReverseSigmoid(beta=0.008, gamma=0.2)

    class Serving:
        strength = 1.0

    served = defence.perturb(clean, Serving())
    assert len(clean) > 500
    assert torch.equal(served.argsort(1), clean.argsort(1))


def test_reverse_sigmoid_keeps_its_promise(digits_world):
    defence = ReverseSigmoid(beta=0.05, gamma=0.2, preserve_top1="off")
    distance = (served_by(digits_world, defence) - digits_world.clean()).abs().sum(1)
    assert defence.epsilon == pytest.approx(0.5)
    assert (distance <= 0.5).all()


def test_misinformation_sets_in_at_the_gate():
    gate = 0.7
    sure = misinformed(torch.tensor([gate + 0.0101, 0.9, 1.0]).double(), gate, 1000.0)
    unsure = misinformed(torch.tensor([gate - 0.0101, 0.5, 0.0]).double(), gate, 1000.0)
    assert (sure < 0.01).all()
    assert (unsure > 0.99).all()
    at_gate = torch.tensor(gate, dtype=torch.float64)
    assert float(misinformed(at_gate, gate, 1000.0)) == 0.5


def test_a_network_that_is_wrong_has_no_loss():
    logits = torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    wrong, right = torch.tensor([1, 2]), torch.tensor([0, 1])
    network = torch.nn.Identity()
    p = logits.softmax(1)
    expected = -(1 - p[0, 1]).log()
    torch.testing.assert_close(miss_the_label(network, logits, wrong), expected)
    assert float(miss_the_label(network, logits, right)) > 5


def test_outlier_exposure_by_hand():
    """Uniform logits cost log K on outliers as on images: log 4 + 0.5 log 4."""
    network = torch.nn.Flatten()
    images = torch.zeros(3, 1, 2, 2)
    loss = OutlierExposure(lambda count: torch.ones(count, 1, 2, 2))
    value = loss(network, images, torch.tensor([0, 1, 2]))
    assert float(value) == pytest.approx(1.5 * math.log(4), rel=1e-6)


def test_misinformation_reaches_noise_and_spares_digits(digits_world):
    defence = AdaptiveMisinformation(epochs=6, ood="uniform", preserve_top1="off")
    victim = defence.harden(digits_world.victim(), digits_world.kit())
    assert defence.overhead_macs == 2 * victim.profile.macs[-1]
    served = digits_world.serve(defence, victim).posteriors
    moved = (served - digits_world.clean()).abs().sum(1)
    digits, noise = moved[:32], moved[32:]
    assert float(digits.mean()) < 0.5
    assert float(noise.mean()) > float(digits.mean()) + 0.3


def test_the_largest_entries_by_hand():
    clean = torch.tensor([[0.5, 0.3, 0.2], [0.2, 0.4, 0.4]]).double()
    kept = torch.tensor([[0.625, 0.375, 0.0], [0.0, 0.5, 0.5]]).double()
    torch.testing.assert_close(largest(clean, 2, "zero"), kept)
    even = torch.tensor([[0.5, 0.25, 0.25], [0.3, 0.4, 0.3]]).double()
    torch.testing.assert_close(largest(clean, 1, "even"), even)


def test_ties_go_to_the_lowest_class():
    clean = torch.full((1, 4), 0.25).double()
    assert largest(clean, 1, "zero").tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_top_1_is_the_label_alone(digits_world):
    served = served_by(digits_world, Truncation(top=1))
    expected = torch.nn.functional.one_hot(digits_world.clean().argmax(1), 10).float()
    assert torch.equal(served, expected)


def test_rounding_by_hand():
    clean = torch.tensor([[0.56, 0.31, 0.13]]).double()
    torch.testing.assert_close(rounded(clean, 1), torch.tensor([[0.6, 0.3, 0.1]]).double())
    # 0.4, 0.4, 0.3 tie; the label, class 1, gets a tenth more
    tied = torch.tensor([[0.352, 0.361, 0.287]]).double()
    expected = torch.tensor([[4.0, 5.0, 3.0]]).double() / 12
    torch.testing.assert_close(rounded(tied, 1, label=torch.tensor([1])), expected)


def test_what_rounds_to_nothing_is_its_label():
    flat = torch.full((1, 30), 1 / 30).double()
    flat[0, 7] += 1e-6
    served = rounded(flat / flat.sum(), 1)
    assert served.argmax() == 7
    assert served.max() == 1


@pytest.mark.parametrize("decimals", [1, 2, 4])
def test_rounding_keeps_its_promise_and_its_labels(decimals):
    clean = posteriors(3000, 10, 1.0)
    served = rounded(clean, decimals, label=clean.argmax(1))
    assert ((served - clean).abs().sum(1) <= 12 * 10.0**-decimals).all()
    assert torch.equal(served.argmax(1), clean.argmax(1))


def test_rounded_answers_take_few_values(digits_world):
    """Keeping the label adds a unit; it never serves the digits that were rounded away."""
    served = served_by(digits_world, Truncation(decimals=1, preserve_top1="on"))
    units = served * torch.arange(7, 14).view(-1, 1, 1)
    assert ((units - units.round()).abs() < 1e-4).all(2).any(0).all()


@pytest.mark.parametrize(
    ("kind", "params", "message"),
    [
        (Truncation, {"top": -1}, "at least 0"),
        (Truncation, {"decimals": 0}, "1 to 7"),
        (ReverseSigmoid, {"gamma": 0.0}, "above 0"),
        (AdaptiveMisinformation, {"gate": 1.5}, "from 0 to 1"),
    ],
)
def test_a_wrong_parameter_says_what_was_expected(kind, params, message):
    with pytest.raises(ValueError, match=message):
        kind(**params)


@pytest.mark.parametrize(
    ("options", "budget"),
    # ten classes, and two more for the label and the normalisation
    [({}, 0.0), ({"decimals": 2}, 0.12), ({"decimals": 1}, 1.2), ({"top": 3}, 2.0)],
)
def test_what_truncation_may_change_follows_from_what_it_takes_away(digits_world, options, budget):
    defence = Truncation(**options)
    defence.harden(digits_world.victim(), digits_world.kit())
    assert defence.epsilon == pytest.approx(budget)
