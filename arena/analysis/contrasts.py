"""How two sides differ in a measure: means, intervals, tests, and the seeds still missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from arena.analysis.games import Game
from arena.analysis.intervals import Interval, bootstrap_interval, mean_interval, seeds_needed
from arena.analysis.metrics import measure_of
from arena.analysis.scoreboard import Comparison, ScoreRow, compare, row_of
from arena.log.outcome import METRICS
from arena.log.rows import EpisodeRow

BySeed = Mapping[int, EpisodeRow]

DEFAULT_MEASURES = tuple(
    name
    for name, metric in METRICS.items()
    # how many accounts there are is a setting, and a test of it corrects others for nothing
    if metric.short and metric.unit not in ("count", "price")
)

HALF_WIDTH = 0.01
"""A difference known to one point is known well enough, unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """How two sides differ in one measure.

    Attributes:
        measure: its name.
        first, second: the means over the shared seeds.
        bootstrap: the mean difference, first minus second, with its bootstrap interval.
        paired: the same pairs' t interval, permutation test and effect sizes.
        adjusted_p: the p value of that test, adjusted by Holm for the number of p values that
            are reported together.
        half_width: what the interval should reach.
        more_seeds: seeds still missing for that; None where one pair, or pairs that are
            alike, say nothing about it, and where the test images alone leave more.
        at_chance: the accuracy of a guess, where neither side's clone is shown to be better.
    """

    measure: str
    first: float
    second: float
    bootstrap: Interval
    paired: Comparison
    adjusted_p: float
    half_width: float
    more_seeds: int | None
    at_chance: float | None = None

    def as_dict(self) -> dict[str, object]:
        """Give plain values."""
        test, effect, t = self.paired.test, self.paired.effect, self.paired.difference
        return {
            "measure": self.measure,
            "first": self.first,
            "second": self.second,
            "difference": self.bootstrap.mean,
            "bootstrap_interval": [self.bootstrap.low, self.bootstrap.high],
            "t_interval": [t.low, t.high],
            "confidence": self.bootstrap.confidence,
            "p": test.p,
            "p_holm": self.adjusted_p,
            "smallest_p": test.smallest_p,
            "exact": test.exact,
            "cohens_dz": effect.cohens_dz,
            "cliffs_delta": effect.cliffs_delta,
            "seeds": list(self.paired.seeds),
            "half_width": self.half_width,
            "more_seeds": self.more_seeds,
            "at_chance": self.at_chance,
        }


def contrasts_of(
    first: BySeed,
    second: BySeed,
    *,
    measures: Sequence[str],
    half_width: float | None,
    images: Mapping[str, int | None],
) -> tuple[Contrast, ...]:
    """Contrast two sides in each measure that both have, over the seeds that both have.

    Args:
        first: the plays of one side by seed.
        second: those of the other.
        measures: names that `arena.analysis.metrics.measure_of` knows.
        half_width: how well each difference should be known, in the measure's unit; one point, or
            a twentieth of the first side's mean where the measure is no share.
        images: test images of each data set; see `arena.analysis.image_sampling`.

    Returns:
        one for each measure, its p values not yet adjusted for their number.
    """
    rows = [row_of((Game("", ""), "", ""), side, images=images) for side in (first, second)]
    found = []
    for name in measures:
        paired = compare(rows[0], rows[1], name)
        if paired is not None:
            found.append(_contrast(rows, name, paired, half_width=half_width))
    return tuple(found)


def _contrast(
    rows: Sequence[ScoreRow], name: str, paired: Comparison, *, half_width: float | None
) -> Contrast:
    values = [[row.by_seed(name)[seed] for seed in paired.seeds] for row in rows]
    means = [mean_interval(side).mean for side in values]
    pairs = paired.gap.differences
    reach = half_width or _default_reach(name, means[0])
    needed = seeds_needed(pairs, reach, variance=paired.gap.variance)
    # seeds that are all alike say nothing about the spread of others
    silent = paired.difference.alike and not paired.gap.variance
    # a comparison has to come out alike whenever it is asked for
    spread = bootstrap_interval(pairs, np.random.default_rng(0)).widened(paired.gap.variance)
    guesses = [row.at_chance if name == "clone_accuracy" else None for row in rows]
    return Contrast(
        measure=name,
        first=means[0],
        second=means[1],
        bootstrap=replace(spread, mean=paired.difference.mean),
        paired=paired,
        adjusted_p=paired.test.p,
        half_width=reach,
        more_seeds=None if needed is None or silent else max(0, needed - len(pairs)),
        at_chance=guesses[0] if guesses[0] == guesses[1] else None,
    )


def _default_reach(name: str, mean: float) -> float:
    relative = measure_of(name).unit in ("macs", "seconds", "count", "price", "number") and mean
    return abs(mean) / 20 if relative else HALF_WIDTH
