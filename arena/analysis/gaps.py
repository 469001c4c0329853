"""Subtracts two sides seed by seed: two meetings, or two defenders over their attackers."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arena.analysis.image_sampling import ACCURACIES, Scored, difference_variance
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.paired_tests import paired_t_p

BySeed = Mapping[int, float]


class Gap(NamedTuple):
    """How far two sides lie apart in a measure, first minus second, on the seeds they share.

    Attributes:
        seeds: shared, ascending.
        differences: of each of them.
        variance: what the test images add to that of the mean difference.
        most: the largest difference there can be, 1 of two accuracies.
    """

    seeds: tuple[int, ...]
    differences: tuple[float, ...]
    variance: float
    most: float = math.inf

    def interval(self, confidence: float = 0.95) -> Interval:
        """Give the mean difference with its t interval, test images counted in."""
        found = mean_interval(self.differences, confidence).widened(self.variance)
        return found.within(-self.most, self.most)

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
    most = 1.0 if measure in ACCURACIES else math.inf
    return Gap(seeds, differences, difference_variance(measure, *shared), most)
