"""Subtracts two sides seed by seed: two meetings, or two defenders over their attackers."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arena.analysis.image_sampling import Scored, difference_variance
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.paired_tests import paired_t_p

BySeed = Mapping[int, float]


class Gap(NamedTuple):
    """How far two sides lie apart in a measure, first minus second, on the seeds they share.

    Attributes:
        seeds: shared, ascending.
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
    def difference(self) -> Interval:
        """The mean difference with its 95% interval."""
        return self.interval()

    @property
    def p(self) -> float:
        """Two-sided, of the t test that belongs to the interval."""
        return paired_t_p(self.differences, variance=self.variance)


def gap_of(measure: str, sides: tuple[Scored, Scored], values: Sequence[BySeed]) -> Gap | None:
    """Subtract two sides on the seeds that both have a value of; None where there is none.

    Args:
        measure: a name that `arena.analysis.metrics.measure_of` knows.
        sides: the episodes behind the values of either side, those of other seeds too.
        values: one of each seed for either side, made of its episodes.
    """
    both = set(values[0]) & set(values[1])
    if not both:
        return None
    seeds = tuple(sorted(both))
    shared = (side.on(both) for side in sides)
    differences = tuple(values[0][seed] - values[1][seed] for seed in seeds)
    return Gap(seeds, differences, difference_variance(measure, *shared))
