"""Counting the exits behind a set of times."""

import itertools

import numpy as np
import pytest

from agents.timing_probe.kmeans import split
from agents.timing_probe.mixture import Fit, Peaks, _posterior, count_exits

SHARES = np.array([0.197, 0.443, 0.819, 1.0])  # of ResNet34-8x; its last two exits coincide


def times(seconds, deviation, *, n=500, repeats=1, weights=None, jitter=0.0, seed=0):
    rng = np.random.default_rng(seed)
    exits = rng.choice(len(seconds), size=n, p=weights)
    noise = np.exp(deviation * rng.normal(size=(n, repeats)))
    total = np.asarray(seconds)[exits][:, None] * noise + rng.exponential(jitter, (n, repeats))
    return exits, np.log(total)


def best_cost(ordered, groups):
    """The least squared distance to group means, by trying every split."""
    return min(
        sum(((part - part.mean()) ** 2).sum() for part in np.split(ordered, cuts))
        for cuts in itertools.combinations(range(1, len(ordered)), groups - 1)
    )


@pytest.mark.parametrize("seed", range(4))
def test_no_split_beats_the_exact_one(seed):
    ordered = np.sort(np.random.default_rng(seed).exponential(size=14))

    for groups, starts in enumerate(split(ordered, 5), start=1):
        parts = np.split(ordered, starts[1:])
        assert len(parts) == groups
        cost = sum(((part - part.mean()) ** 2).sum() for part in parts)
        assert cost == pytest.approx(best_cost(ordered, groups))


def test_equal_numbers_are_not_split():
    assert [len(set(starts)) for starts in split(np.array([1.0, 1.0, 2.0, 2.0]), 4)][:2] == [1, 2]
    assert count_exits(np.full(100, -5.0)).exits == 1


@pytest.mark.parametrize(("deviation", "repeats"), [(0.0, 1), (0.01, 1), (0.02, 1), (0.05, 5)])
def test_four_of_five_exits_of_a_resnet34_are_told_apart(deviation, repeats):
    """Published: four clusters up to sd 0.02 with one query, at 0.05 with five."""
    seconds = 1e-3 + 4e-3 * np.array([*SHARES, 1.0])
    exits, logs = times(seconds, deviation, repeats=repeats)
    count = count_exits(logs.mean(1))

    labels, _ = count.assign(logs.mean(1))
    assert count.exits == count.by_bic == 4
    assert (labels == np.minimum(exits, 3)).mean() >= 0.99
    assert np.exp(count.peaks.means) == pytest.approx(1e-3 + 4e-3 * SHARES, rel=0.01)


def test_five_percent_of_noise_needs_repeats_and_the_count_says_so():
    _, logs = times(1e-3 + 4e-3 * np.array([*SHARES, 1.0]), 0.05)
    count = count_exits(logs[:, 0])

    assert not count.resolved()
    assert count.confidence <= 0.5


@pytest.mark.parametrize("seed", range(3))
def test_eight_exits_behind_one_sided_jitter_need_ten_repeats(seed):
    """Published: 100 inputs with 10 repeats, their minimum taken."""
    _, logs = times(0.31e-3 * np.arange(1, 9), 0.02, n=200, repeats=10, jitter=0.05e-3, seed=seed)

    assert count_exits(logs.min(1)).exits == 8


def test_a_rare_exit_is_found_and_a_very_rare_one_dropped():
    weights = [0.9, 0.04, 0.03, 0.03]
    _, logs = times(1e-3 + 4e-3 * SHARES, 0.01, n=800, weights=weights)
    assert count_exits(logs[:, 0]).exits == 4

    weights = [0.5, 0.499, 0.001, 0.0]
    _, logs = times(1e-3 + 4e-3 * SHARES, 0.01, n=4000, weights=weights)
    assert count_exits(logs[:, 0]).exits == 2


def test_bic_splits_a_skewed_peak_and_the_disagreement_is_told():
    rng = np.random.default_rng(0)
    logs = np.log(1e-3 + rng.exponential(1e-4, 1500))
    count = count_exits(logs)

    assert count.by_bic > 1
    assert count.identified == (count.exits == count.by_bic)
    assert count.identified or count.confidence <= 0.5


def test_stray_answers_make_no_exit():
    _, logs = times(1e-3 + 4e-3 * SHARES, 0.01)
    logs[::60, 0] += np.linspace(0.1, 2.5, len(logs[::60]))  # an interrupted server
    count = count_exits(logs[:, 0])

    assert count.exits == 4
    labels, _ = count.assign(np.array([logs.max()]))
    assert labels.tolist() == [-1]


def test_one_exit_is_one_and_two_that_coincide_are_one():
    _, logs = times([3e-3], 0.01)
    assert count_exits(logs[:, 0]).exits == 1

    _, logs = times([3e-3, 3.006e-3], 0.0)
    assert count_exits(logs[:, 0]).exits == 1


def test_boundaries_divide_neighbours():
    exits, logs = times(1e-3 + 4e-3 * SHARES, 0.01)
    count = count_exits(logs[:, 0])

    assert np.array_equal(np.searchsorted(count.boundaries(), logs[:, 0]), exits)


def test_the_same_times_in_any_order_give_the_same_count():
    _, logs = times(1e-3 + 4e-3 * SHARES, 0.05, n=300)
    shuffled = np.random.default_rng(1).permutation(logs[:, 0])

    assert count_exits(logs[:, 0]).criteria == count_exits(shuffled).criteria


def two_groups(rare):
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(0, 2e-3, 60), rng.normal(0.02, 2e-3, rare)])


@pytest.mark.parametrize("many", [3, 60])
def test_a_peak_within_five_deviations_of_the_known_noise_is_no_exit(many):
    logs = 10 * two_groups(many)

    assert count_exits(logs).exits == 2
    assert count_exits(logs, noise=np.full(len(logs), 0.03)).exits == 2
    assert count_exits(logs, noise=np.full(len(logs), 0.08)).exits == 1


def test_images_of_one_exit_may_differ_by_a_tenth_on_a_real_clock():
    logs = np.concatenate([two_groups(0), two_groups(0) + 0.1])

    assert count_exits(logs).exits == 2
    assert count_exits(logs, noise=np.full(len(logs), 0.003)).exits == 1
    assert count_exits(2 * logs, noise=np.full(len(logs), 0.006)).exits == 2


def test_the_noise_of_a_peak_is_that_of_its_own_answers():
    """The third group is noisy; the first two, 0.2 apart, are not."""
    chance = np.random.default_rng(0)
    logs = np.concatenate([10 * two_groups(60), chance.normal(1.6, 0.2, 60)])
    noise = np.concatenate([np.full(120, 0.02), np.full(60, 0.2)])

    count = count_exits(logs, noise=noise)
    assert count.exits == 3
    assert count.confidence > 0.9
    assert count_exits(logs, noise=np.full(180, noise.mean())).exits == 2


@pytest.mark.parametrize(("strays", "exits", "confidence"), [(1, 1, 1.0), (2, 2, 1.0)])
def test_one_image_that_is_always_slow_is_no_exit(strays, exits, confidence):
    logs = np.concatenate([two_groups(0), np.full(strays, 0.5)])

    assert count_exits(logs, noise=np.full(len(logs), 0.002)).exits == exits
    assert count_exits(logs, noise=np.full(len(logs), 0.002)).confidence == pytest.approx(
        confidence, abs=0.05
    )


def test_a_peak_wider_than_its_noise_may_hide_an_exit():
    logs = np.concatenate([two_groups(0), two_groups(0) + 0.5])
    logs[::7] += 0.18

    assert count_exits(logs, noise=np.full(len(logs), 0.04)).confidence < 0.6
    assert count_exits(logs, noise=np.full(len(logs), 0.06)).confidence > 0.9


@pytest.mark.parametrize("seed", [271, 289, 511])
def test_belief_in_a_count_never_passes_one(seed):
    """Of these criteria a part sums to more than the whole, in the last digit."""
    chance = np.random.default_rng(seed)
    number = int(chance.integers(3, 15))
    icl = chance.random(number) * chance.choice([1, 20, 80, 200])
    near = icl < chance.choice([40, 60, 75])
    weights = np.exp(-0.5 * (icl - icl.min()))
    assert weights[near].sum() / weights.sum() > 1
    two, three = (
        Peaks(np.arange(k, dtype=float), np.full(k, 0.01), np.full(k, 1 / k), 0.0) for k in (2, 3)
    )
    fits = [
        Fit(two if few else three, bic=0.0, icl=value) for few, value in zip(near, icl, strict=True)
    ]
    assert _posterior(fits, [fit.peaks for fit in fits], 2) == 1.0
