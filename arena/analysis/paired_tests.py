"""Compares two players on the same seeds: paired tests, corrections and effect sizes.

Differences are taken seed by seed. scipy does the mathematics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from arena.analysis.intervals import mean_of, normal_reach, sample_of, t_reach

EXACT_PAIRS = 12
"""Up to so many pairs every sign assignment is tried: 2**12 = 4096 of them."""

PERMUTATIONS = 9_999
"""Sign assignments that are drawn above `EXACT_PAIRS`."""

_LEAST, _MOST = math.log(1e-12), math.log(1 - 1e-12)
"""Natural logarithms of the p values between which one is looked for."""

NEEDS_PAIRS = 6
"""With fewer pairs, no difference whatever can give a p below 0.05: 2 / 2**5 is 0.0625."""


@dataclass(frozen=True, slots=True)
class PairedTest:
    """What a paired permutation test found.

    Attributes:
        difference: mean of first minus second.
        p: two-sided; how often chance alone makes a difference at least this large.
        n: pairs.
        exact: every sign assignment was tried.
        smallest_p: the least p that so many pairs can give, 2 / 2**n; above 0.05 for n < 6.
    """

    difference: float
    p: float
    n: int
    exact: bool
    smallest_p: float


@dataclass(frozen=True, slots=True)
class EffectSize:
    """How large a difference is, apart from whether it is chance.

    Attributes:
        cohens_dz: mean paired difference in its standard deviations; None where the differences
            do not vary or there is one pair.
        cliffs_delta: share of pairs (any first, any second) where the first is larger, minus the
            share where it is smaller, -1 to 1.
    """

    cohens_dz: float | None
    cliffs_delta: float


def paired_permutation_test(
    first: Sequence[float],
    second: Sequence[float],
    *,
    generator: np.random.Generator | None = None,
) -> PairedTest:
    """Test whether two players differ, on values paired by seed.

    If neither is better, the sign of each difference is a coin's. Up to `EXACT_PAIRS` pairs all
    signs are tried, beyond that `PERMUTATIONS` draws from `generator`.

    Raises:
        ValueError: lengths differ, no pair, values not finite, or too many pairs for the exact
            test and no generator.

    Source:
        Fisher 1935, "The Design of Experiments", section 21.
    """
    differences = _differences(first, second)
    n = len(differences)
    exact = n <= EXACT_PAIRS
    if not exact and generator is None:
        raise ValueError(f"expected a generator for {n} pairs; only {EXACT_PAIRS} are tried out")
    difference, smallest = float(differences.mean()), 2.0 / 2.0**n
    # one pair has two equally likely signs; sums that rounding alone tells apart are equal
    if n == 1 or np.abs(differences).max() < 1e-12:
        return PairedTest(difference, 1.0, n, exact, smallest)
    from scipy import stats  # it takes seconds to import, with what it needs

    found = stats.permutation_test(
        (differences,),
        mean_of,
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if exact else PERMUTATIONS,
        rng=generator,
    )
    return PairedTest(difference, float(found.pvalue), n, exact, smallest)


def paired_t_p(differences: Sequence[float], *, variance: float) -> float:
    """Give the p value of a paired t test that counts the test images in.

    It is the least level at which the t interval of the mean difference, widened by the sampling
    variance of the test images (see `Interval.widened`), holds 0 no longer. One pair says nothing
    about the spread, and neither do equal differences on images that are not known: 1.

    Raises:
        ValueError: no difference, or one that is not finite.
    """
    sample = sample_of(differences)
    mean, n = abs(float(sample.mean())), len(sample)
    spread = float(sample.std(ddof=1)) if n > 1 else 0.0
    if n == 1 or (spread < 1e-12 and not variance):
        return 1.0

    def beyond(log_p: float) -> float:
        """Say how much further than the mean the interval of this level reaches."""
        level = 1 - math.exp(log_p)
        return math.hypot(t_reach(spread, n, level), normal_reach(variance, level)) - mean

    if beyond(_LEAST) <= 0:
        return math.exp(_LEAST)
    return 1.0 if beyond(_MOST) >= 0 else math.exp(brentq(beyond, _LEAST, _MOST))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values that belong together for their number, in their order.

    Of m values in rising order the i-th is multiplied by m - i + 1; an adjusted value is no
    smaller than the one before it, and at most 1. Calling those below 0.05 different errs in one
    or more of them with probability 0.05 at most, however the tests depend on each other.

    Raises:
        ValueError: a value outside [0, 1].

    Source:
        Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian
        Journal of Statistics 6.
    """
    outside = [p for p in p_values if not 0 <= p <= 1]
    if outside:
        raise ValueError(f"expected p values from 0 to 1, got {outside[0]}")
    adjusted, floor = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        floor = max(floor, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = floor
    return adjusted


def effect_size(first: Sequence[float], second: Sequence[float]) -> EffectSize:
    """Measure how far apart two players are, on values paired by seed.

    Raises:
        ValueError: lengths differ, no pair, or values not finite.

    Source:
        Cohen 1988, "Statistical Power Analysis", 2.3.5 (dz).
        Cliff 1993, "Dominance statistics", Psychological Bulletin 114.
    """
    differences = _differences(first, second)
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    # equal differences leave rounding noise, not zero
    varies = spread > 1e-12 * max(1.0, float(np.abs(differences).max()))
    dz = float(differences.mean()) / spread if varies else None
    return EffectSize(dz, float(np.sign(np.subtract.outer(first, second)).mean()))


def _differences(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    if len(first) != len(second):
        raise ValueError(f"expected pairs, got {len(first)} and {len(second)} values")
    return sample_of(first) - sample_of(second)
