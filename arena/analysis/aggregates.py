"""Sums up a player over many opponents: interquartile mean and performance profile.

The runs of a player are its episodes, one for each opponent and seed. Intervals are percentiles of
a stratified bootstrap: seeds are drawn anew within each opponent.

Source:
    Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice",
    NeurIPS 34 (the library rliable), sections 4.2 and 4.3.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from arena.analysis.image_sampling import share_variance
from arena.analysis.intervals import Interval
from arena.analysis.scoreboard import ScoreRow

MEASURE = "clone_accuracy"

RESAMPLES = 2_000
"""Draws of the bootstrap, as rliable takes for profiles."""

LEAST_OPPONENTS, LEAST_SEEDS = 3, 2
"""With fewer there is nothing to sum up, or nothing to draw anew."""

THRESHOLDS = np.linspace(0, 1, 51)
"""Accuracies at which a profile is read."""

Floats = NDArray[np.float64]
Whole = NDArray[np.integer]
Number = TypeVar("Number", bound=np.generic)


class Aggregate(NamedTuple):
    """A player over all its opponents.

    Attributes:
        player: its name.
        opponents: how many it met.
        iqm: mean of the middle half of its runs, with its interval; `n` counts the runs.
        profile: (51,) share of its runs with a clone accuracy above each of `THRESHOLDS`.
        low, high: (51,) ends of the profile's pointwise 95% interval.
    """

    player: str
    opponents: int
    iqm: Interval
    profile: Floats
    low: Floats
    high: Floats


def interquartile_means(draws: Floats) -> Floats:
    """Average the middle half of each row of runs: a quarter is cut off at either end."""
    return _middle_means(np.sort(draws, axis=1))


def _middle_means(ascending: Floats) -> Floats:
    cut = ascending.shape[1] // 4
    return np.asarray(ascending[:, cut : ascending.shape[1] - cut].mean(1))


def aggregates_of(
    board: Sequence[ScoreRow], by: Literal["attacker", "defender"]
) -> list[Aggregate]:
    """Sum up the players of one side, those with the lowest clone accuracy first.

    Empty where there are fewer than `LEAST_OPPONENTS` opponents or `LEAST_SEEDS` seeds.
    """
    strata: dict[str, list[Floats]] = {}
    images: dict[str, int | None] = {}
    for row in board:
        scores = np.array(list(row.by_seed(MEASURE).values()))
        if len(scores):
            name = row.attack if by == "attacker" else row.versus
            strata.setdefault(name, []).append(scores)
            images[name] = row.images
    found = [
        _aggregate(name, runs, images[name])
        for name, runs in strata.items()
        if len(runs) >= LEAST_OPPONENTS and max(map(len, runs)) >= LEAST_SEEDS
    ]
    return sorted(found, key=lambda one: one.iqm.mean)


def _aggregate(name: str, strata: Sequence[Floats], images: int | None) -> Aggregate:
    runs = np.concatenate(strata)
    ascending = np.sort(runs)
    # whole numbers of 16 bits are sorted in a fifth of the time
    ranks = np.argsort(np.argsort(runs)).astype(np.uint16 if len(runs) < 2**16 else np.int64)
    by_opponent = np.split(ranks, np.cumsum([len(one) for one in strata])[:-1])
    # the same log gives the same interval whenever it is asked
    drawn = np.sort(stratified_draws(by_opponent, np.random.default_rng(0)), 1, kind="stable")
    low, high = np.percentile(_middle_means(ascending[drawn]), [2.5, 97.5])
    mean = float(interquartile_means(runs[None])[0])
    found = Interval(mean, float(low), float(high), len(runs))
    passed = np.searchsorted(THRESHOLDS, ascending).astype(np.uint8)  # a matrix of them is small
    ends = np.percentile(shares_above(passed[drawn]), [2.5, 97.5], axis=0)
    return Aggregate(
        name,
        len(strata),
        found.widened(share_variance(found.mean, images)).within(0, 1),
        shares_above(passed[None])[0],
        ends[0],
        ends[1],
    )


def shares_above(passed: Whole) -> Floats:
    """Tell which share of each row of runs is above each threshold; (rows, 51).

    Args:
        passed: (rows, runs), how many of `THRESHOLDS` each run is above.
    """
    rows, places = len(passed), len(THRESHOLDS) + 1
    counts = np.bincount(
        (passed + places * np.arange(rows)[:, None]).ravel(), minlength=rows * places
    ).reshape(rows, places)
    return np.asarray(counts[:, :0:-1].cumsum(1)[:, ::-1] / passed.shape[1])


def stratified_draws(
    strata: Sequence[NDArray[Number]], generator: np.random.Generator, resamples: int = RESAMPLES
) -> NDArray[Number]:
    """Draw the runs anew within each stratum; returns (resamples, runs)."""
    parts = [runs[generator.integers(0, len(runs), (resamples, len(runs)))] for runs in strata]
    return np.concatenate(parts, axis=1)
