"""Times of networks on the attacker's own machine, and naming a network by them."""

import numpy as np
import pytest
import torch

from agents.timing_probe import own_profile
from agents.timing_probe.architecture_match import ExitTimes, match
from agents.timing_probe.candidates import Candidate, candidates
from agents.timing_probe.own_profile import OwnProfile, summed_up

DIGITS = (1, 8, 8)

# milliseconds to each exit, as one CPU thread takes them at 32x32: not in proportion to arithmetic
MEASURED = {
    "resnet18-8x": (3.9, 7.9, 12.5, 18.7),
    "resnet34-8x": (6.1, 13.6, 26.8, 36.0),
    "mobilenetv2": (1.8, 2.8, 5.2, 8.3),
    "resnet10": (0.65, 0.94, 1.23, 1.58),
}


def entry(name):
    family = name.partition("net")[0] + "net"
    costs = np.linspace(1, 4, 4)
    return Candidate(name, family, 1, 1, 1, costs, costs, costs)


CATALOGUE = [entry(name) for name in MEASURED]
PROFILE = OwnProfile(tuple(np.asarray(times) / 1e3 for times in MEASURED.values()), 0.02)


def believed(seconds, error=0.01):
    """Return the probability of each network, None for one that nobody listed."""
    times = ExitTimes(np.asarray(seconds), np.full(len(seconds), error))
    shares = {}
    for one in match(times, CATALOGUE, hardware=PROFILE):
        name = one.candidate.architecture if one.candidate else None
        shares[name] = shares.get(name, 0.0) + one.probability
    return shares


def test_the_least_time_counts_and_halves_of_the_repeats_tell_the_error():
    passes = np.array([[1.0, 3.0, 5.0], [2.0, 2.0, 4.0], [4.0, 6.0, 7.0], [1.0, 9.0, 4.0]])
    found = summed_up(passes, [2, 1])

    assert [part.tolist() for part in found.seconds] == [[1.0, 2.0], [4.0]]
    # halves: 1, 3, 5 and 1, 2, 4; logs differ by 0, 0.405 and 0.223
    assert found.error == pytest.approx(np.sqrt((0.4055**2 + 0.2231**2) / 3 / 2), abs=1e-3)


def test_no_exit_is_reached_before_the_one_in_front_of_it():
    found = summed_up(np.array([[2.0, 1.5], [2.0, 1.8]]), [2])

    assert found.seconds[0].tolist() == [2.0, 2.0]


@pytest.mark.parametrize("name", ["resnet18-8x", "resnet34-8x", "mobilenetv2"])
@pytest.mark.parametrize("slower", [0.7, 1.0, 1.6])
def test_times_of_a_like_machine_name_the_network(name, slower):
    seconds = 0.4e-3 + slower * np.asarray(MEASURED[name]) / 1e3

    assert believed(seconds)[name] > 0.7


def test_a_small_network_is_not_taken_for_a_large_one_served_ten_times_as_slowly():
    shares = believed(12 * np.asarray(MEASURED["resnet10"]) / 1e3)

    assert shares["resnet10"] < 0.5


def test_times_that_fit_none_are_a_network_that_nobody_listed():
    assert max(believed([1e-3, 30e-3, 31e-3, 32e-3], error=0.002).items(), key=lambda p: p[1])[
        0
    ] not in ("resnet18-8x", "resnet34-8x", "resnet10")


def test_every_network_gets_a_rising_time_for_each_exit(monkeypatch):
    few = [one for one in candidates(DIGITS, 10) if one.architecture in ("conv-small", "lenet5")]
    monkeypatch.setattr(own_profile, "candidates", lambda *form: few)
    own_profile.own_profile.cache_clear()
    state = torch.get_rng_state()
    found = own_profile.own_profile(DIGITS, 10)
    own_profile.own_profile.cache_clear()

    assert torch.equal(torch.get_rng_state(), state)
    assert [len(seconds) for seconds in found.seconds] == [one.exits for one in few]
    for seconds in found.seconds:
        assert seconds[0] > 0
        assert (np.diff(seconds) >= 0).all()
