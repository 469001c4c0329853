"""Exits are counted on the clock of a machine that is at work for others, too."""

import numpy as np
import pytest
import torch

from agents.timing_probe.architecture_guess import Evidence, exit_times_of, idle_exit_times
from agents.timing_probe.architecture_match import Hypothesis
from agents.timing_probe.candidates import candidates
from agents.timing_probe.sample import Sample
from agents.timing_probe.stopwatch import Stopwatch

SECONDS = np.array([1.2e-3, 2.1e-3, 4.0e-3, 6.0e-3])
"""Of four exits on an idle machine."""

TURN = 4e-3
"""A scheduler's turn: for so long somebody else computes."""


class _Asked:
    """Stands for an oracle that is never asked."""

    class threat:  # noqa: N801
        labels = "soft"


def timed(repeats, *, busy, each=20, seed=0, spread=0.05):
    """Time 4 x each images on a machine where somebody else has every second turn, or nobody."""
    chance = np.random.default_rng(seed)
    exits = np.repeat(np.arange(4), each)
    own = SECONDS[exits, None] * np.exp(spread * chance.normal(size=(len(exits), repeats)))
    turns = chance.poisson(own / TURN * busy)
    logs = np.log(own + turns * TURN * chance.uniform(0.8, 1.2, size=own.shape))
    empty = torch.zeros(len(exits), 1)
    return exits, Sample(empty, empty, logs, np.zeros_like(logs))


def read(sample):
    return Stopwatch(_Asked(), torch.zeros(1, 1), rough=True).read(sample)


@pytest.mark.parametrize("seed", range(5))
def test_a_quiet_machine_shows_four_exits_in_eight_repeats(seed):
    exits, sample = timed(8, busy=0.05, seed=seed)

    times, count, _ = read(sample)
    assert count.exits == 4
    assert count.confidence > 0.8
    assert (count.assign(times)[0] == exits).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_busy_machine_shows_them_in_many_and_says_nothing_wrong_in_few(seed):
    exits, many = timed(96, busy=1.0, seed=seed)

    times, count, _ = read(many)
    assert count.exits == 4
    assert count.confidence > 0.6
    assert (count.assign(times)[0] == exits).mean() > 0.95
    for repeats in (4, 8):
        few = read(many.first(repeats)).exits
        assert few.exits == 4 or few.confidence < 0.6


def test_times_of_a_busy_machine_are_those_of_an_idle_one():
    exits, sample = timed(64, busy=1.0, spread=0.02)
    exits[3] = -1

    found = idle_exit_times(sample.logs, exits)
    assert found.seconds == pytest.approx(SECONDS, rel=0.15)
    assert found.seconds / found.seconds[-1] == pytest.approx(SECONDS / SECONDS[-1], rel=0.1)
    assert (found.errors < 0.1).all()


def test_an_image_that_is_always_slow_does_not_shift_its_exit():
    exits, sample = timed(8, busy=0.0)
    slow = sample.logs.copy()
    slow[np.flatnonzero(exits == 3)[0]] += np.log(2)

    plain, found = (idle_exit_times(logs, exits).seconds for logs in (sample.logs, slow))
    assert found == pytest.approx(plain, rel=0.01)


@pytest.mark.parametrize(("strange", "certainty"), [(0.9, 0.5), (0.1, 1.0)])
def test_times_that_no_known_network_takes_halve_the_belief_in_exits(strange, certainty):
    _, sample = timed(16, busy=0.0, spread=0.01)
    count = read(sample).exits
    known = candidates((3, 32, 32), 6)[0]
    hypotheses = [
        Hypothesis(None, (), strange, 0.0),
        Hypothesis(known, (0, 1, 2, 3), 1 - strange, 0.0),
    ]
    evidence = Evidence(count, exit_times_of(count, 80), hypotheses, None, (), 80)
    assert evidence.certainty == pytest.approx(certainty, abs=0.01)
