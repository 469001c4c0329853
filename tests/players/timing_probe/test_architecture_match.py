"""Naming the network behind a exit_times of times."""

import numpy as np
import pytest

from agents.timing_probe import candidates as catalogue
from agents.timing_probe.architecture_match import ExitTimes, match
from envs.latency.model import COSTS
from envs.nets import registry

CIFAR = (3, 32, 32)


@pytest.fixture(scope="module")
def cifar():
    return catalogue.candidates(CIFAR, 10)


def find(candidates, name):
    return next(entry for entry in candidates if entry.architecture == name)


def exit_times(macs, *, offset=1e-3, whole=4e-3, error=1e-4):
    return ExitTimes(offset + whole * macs / macs[-1], np.full(len(macs), error))


def probability(hypotheses, **wanted):
    return sum(
        hypothesis.probability
        for hypothesis in hypotheses
        if hypothesis.candidate
        and all(getattr(hypothesis.candidate, key) == value for key, value in wanted.items())
    )


def test_the_catalogue_holds_every_network_that_fits_the_images(cifar):
    names = {entry.architecture for entry in cifar}

    assert {"resnet18-8x", "resnet34-8x", "mobilenetv2", "densenet121", "lenet5"} <= names
    assert "resnet50" not in names  # of ImageNet size
    assert names <= set(registry.names())
    assert {entry.exits for entry in cifar if entry.architecture == "resnet34-8x"} == {5, 9}


def test_published_shares_of_resnet34_are_in_the_catalogue(cifar):
    macs = find(cifar, "resnet34-8x").macs

    assert macs / macs[-1] == pytest.approx([0.197, 0.443, 0.819, 1, 1], abs=1e-3)
    assert find(cifar, "resnet34-8x").places == (0, 1, 2, 3, 3)


@pytest.mark.parametrize("name", ["resnet34-8x", "densenet121", "mobilenetv2"])
def test_exact_times_rank_the_true_network_first(cifar, name):
    entry = find(cifar, name)
    kept = [entry.places.index(place) for place in sorted(set(entry.places))]
    hypotheses = match(exit_times(entry.macs[kept]), cifar)

    assert hypotheses[0].candidate.architecture == name
    assert sum(hypothesis.probability for hypothesis in hypotheses) == pytest.approx(1)


def test_resnets_of_equal_ratios_are_told_as_a_family_and_not_by_name(cifar):
    """A ResNet-18 and half a ResNet-10 at 32 pixels: (0.333, 0.667) and (0.331, 0.662)."""
    hypotheses = match(exit_times(find(cifar, "resnet18-8x").macs[:4]), cifar)

    assert probability(hypotheses, family="resnet") > 0.9
    assert probability(hypotheses, architecture="resnet18-8x") > 0.2
    assert all(probability(hypotheses, architecture=e.architecture) < 0.6 for e in cifar)


def test_two_percent_of_error_leaves_resnet34_first_among_networks_of_its_size(cifar):
    """Acceptance: among the networks of CIFAR size, with 2 % error on each ratio."""
    rivals = ("resnet34-8x", "resnet18-8x", "mobilenetv2", "densenet121")
    entries = [find(cifar, name) for name in rivals]
    macs = entries[0].macs[:4]
    for seed in range(20):
        noise = 1 + 0.02 * np.random.default_rng(seed).uniform(-1, 1, 4)
        shares = macs / macs[-1] * noise
        best = match(exit_times(shares, error=0.005), entries)[0]
        assert best.candidate.architecture == "resnet34-8x", seed


def test_two_times_name_no_network(cifar):
    macs = find(cifar, "resnet34-8x").macs[[0, 3]]
    hypotheses = match(exit_times(macs), cifar)

    assert max(probability(hypotheses, family=entry.family) for entry in cifar) < 0.9
    assert max(probability(hypotheses, architecture=e.architecture) for e in cifar) < 0.5


def test_exits_that_never_answered_do_not_mislead(cifar):
    entry = next(e for e in cifar if e.architecture == "resnet34-8x" and e.exits == 9)
    visited = [0, 2, 3, 5, 6]
    hypotheses = match(exit_times(entry.macs[visited], error=1e-3), cifar)

    assert probability(hypotheses, architecture="resnet34-8x") > 0.5
    assert hypotheses[0].candidate.exits == 9


def test_widths_share_a_list_of_exit_times_until_the_hardware_is_known():
    small = catalogue.candidates((1, 8, 8), 10)
    cpu, entry = COSTS["cpu"], find(small, "resnet10")
    seconds = (
        3e-4
        + cpu.per_op * entry.ops
        + cpu.per_byte * entry.weight_bytes
        + 2 * entry.macs / cpu.flops_per_second
    )
    seen = ExitTimes(seconds, np.full(5, 1e-4))

    blind = match(seen, small)
    assert 0.3 < probability(blind, architecture="resnet10") < 0.7
    assert probability(blind, family="resnet", depth=10) > 0.9
    informed = match(seen, small, hardware=cpu, model_error=0.005)
    assert probability(informed, architecture="resnet10") > 0.99
    assert informed[0].offset == pytest.approx(3e-4, rel=0.1)


def test_a_list_of_exit_times_that_fits_nothing_is_laid_at_a_strangers_door(cifar):
    strange = np.array([0.30, 0.31, 0.32, 1.0])
    hypotheses = match(exit_times(strange, offset=0.0), [find(cifar, "resnet18-8x")])

    assert hypotheses[0].candidate is None
