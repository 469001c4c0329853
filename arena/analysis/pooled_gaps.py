"""Subtracts what two defenders came to over their attackers, seed by seed."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arena.analysis.image_sampling import Scored, difference_variance
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.paired_tests import paired_t_p
from arena.analysis.scoreboard import ScoreRow

BySeed = Mapping[int, float]


class PooledGap(NamedTuple):
    """The differences of two defenders, first minus second.

    Attributes:
        seeds: those that both were played on, ascending.
        differences: of each of them.
        variance: what the test images add to that of the mean difference.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    variance: float

    def interval(self, confidence: float = 0.95) -> Interval:
        """Give the mean difference with its t interval, test images counted in."""
        return mean_interval(self.differences, confidence).widened(self.variance)

    @property
    def p(self) -> float:
        """Two-sided, of the t test that belongs to the interval."""
        return paired_t_p(self.differences, variance=self.variance)


def pooled_gap(
    measure: str, rows: tuple[Sequence[ScoreRow], Sequence[ScoreRow]], values: Sequence[BySeed]
) -> PooledGap | None:
    """Subtract two defenders on the seeds that both have a value of; None where there is none.

    Args:
        measure: out of `arena.analysis.metrics.MEASURES`.
        rows: the meetings behind the values of either side.
        values: one of each seed for either side, made of its meetings.
    """
    seeds = tuple(sorted(set(values[0]) & set(values[1])))
    if not seeds:
        return None
    sides = (
        Scored(
            [row.episodes[seed] for row in side for seed in seeds if seed in row.episodes],
            side[0].images,
        )
        for side in rows
    )
    differences = tuple(values[0][seed] - values[1][seed] for seed in seeds)
    return PooledGap(seeds, differences, difference_variance(measure, *sides))
