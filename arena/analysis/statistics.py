"""Say how sure a number is: intervals, paired tests, effect sizes and the seeds they need.

An episode is one draw; its seed is the unit of repetition. Two players are compared on the same
seeds, so differences are taken seed by seed. scipy does the mathematics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXACT_PAIRS = 12
"""Up to so many pairs every sign assignment is tried: 2**12 = 4096 of them."""

RESAMPLES = 9_999
"""Draws of the bootstrap, and of the permutation test above `EXACT_PAIRS`."""

NEEDS_PAIRS = 6
"""With fewer pairs, no difference whatever can give a p below 0.05: 2 / 2**5 is 0.0625."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and how far it may be off.

    Attributes:
        mean: of the values.
        low, high: ends of the interval; None where one value says nothing about its spread.
        n: how many values.
        confidence: how often such an interval holds the true mean, 0 to 1.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    confidence: float = 0.95

    @property
    def known(self) -> bool:
        """Whether there is an interval at all; a single value has none."""
        return self.low is not None

    @property
    def half_width(self) -> float | None:
        """Half the distance between the ends, None where they are unknown."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def within(self, low: float, high: float) -> "Interval":
        """Cut the ends to a range the true mean cannot leave; the coverage stays."""
        if self.low is None or self.high is None:
            return self
        ends = (max(self.low, low), min(self.high, high))
        return Interval(self.mean, *ends, n=self.n, confidence=self.confidence)

    def __str__(self) -> str:
        percent = f"{100 * self.confidence:g} %"
        if self.low is None or self.high is None:
            return f"{self.mean:.4g} (one value: no interval)"
        return f"{self.mean:.4g} ({percent} interval {self.low:.4g} to {self.high:.4g}, n={self.n})"


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


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Give the mean and its Student t interval.

    One value has no interval: `low` and `high` are None.

    Raises:
        ValueError: no value, one that is not finite, or a confidence outside (0, 1).
    """
    sample = _sample(values)
    _check_confidence(confidence)
    mean, n = float(sample.mean()), len(sample)
    if n == 1:
        return Interval(mean, None, None, 1, confidence)
    reach = _t_reach(float(sample.std(ddof=1)), n, confidence)
    return Interval(mean, mean - reach, mean + reach, n, confidence)


def bootstrap_interval(
    values: Sequence[float],
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Give the mean and its bias-corrected and accelerated bootstrap interval.

    It assumes no distribution, but with fewer than about ten values it is too narrow; the t
    interval is the better one there.

    Raises:
        ValueError: as `mean_interval`.

    Source:
        Efron 1987, "Better bootstrap confidence intervals", JASA 82.
    """
    sample = _sample(values)
    _check_confidence(confidence)
    mean, n = float(sample.mean()), len(sample)
    if n == 1:
        return Interval(mean, None, None, 1, confidence)
    if np.ptp(sample) == 0:  # the acceleration is 0/0 there
        return Interval(mean, mean, mean, n, confidence)
    ends = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="BCa",
        rng=generator,
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high), n, confidence)


def paired_permutation_test(
    first: Sequence[float],
    second: Sequence[float],
    *,
    generator: np.random.Generator | None = None,
) -> PairedTest:
    """Test whether two players differ, on values paired by seed.

    If neither is better, the sign of each difference is a coin's. Up to `EXACT_PAIRS` pairs all
    signs are tried, beyond that `RESAMPLES` draws from `generator`.

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
    if n == 1 or not differences.any():  # one pair has two equally likely signs
        return PairedTest(difference, 1.0, n, exact, smallest)
    found = stats.permutation_test(
        (differences,),
        _mean_of,
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf if exact else RESAMPLES,
        rng=generator,
    )
    return PairedTest(difference, float(found.pvalue), n, exact, smallest)


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
    wins = stats.mannwhitneyu(first, second, method="asymptotic").statistic
    return EffectSize(dz, 2.0 * float(wins) / (len(first) * len(second)) - 1.0)


def seeds_needed(
    values: Sequence[float], half_width: float, *, confidence: float = 0.95
) -> int | None:
    """Count the seeds after which the t interval is expected to reach `half_width`.

    It takes the spread of the values so far for the true one.

    Returns:
        at least 2, or None where one value says nothing about the spread.

    Raises:
        ValueError: as `mean_interval`, or `half_width` is not above 0.
    """
    sample = _sample(values)
    _check_confidence(confidence)
    if not half_width > 0:
        raise ValueError(f"expected a half width above 0, got {half_width}")
    if len(sample) == 1:
        return None
    spread = float(sample.std(ddof=1))
    few, many = 1, 2
    while _t_reach(spread, many, confidence) > half_width:
        few, many = many, 2 * many
    while many - few > 1:  # the reach falls with every seed, so halving finds the first
        middle = (few + many) // 2
        if _t_reach(spread, middle, confidence) > half_width:
            few = middle
        else:
            many = middle
    return many


def _t_reach(spread: float, n: int, confidence: float) -> float:
    """Give half the width of the t interval of n values with this standard deviation."""
    return float(stats.t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)


def _mean_of(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    return np.asarray(values.mean(axis=axis))


def _sample(values: Sequence[float]) -> NDArray[np.float64]:
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) == 0:
        raise ValueError(f"expected a list of at least one value, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("expected finite values, got NaN or infinity")
    return sample


def _differences(first: Sequence[float], second: Sequence[float]) -> NDArray[np.float64]:
    if len(first) != len(second):
        raise ValueError(f"expected pairs, got {len(first)} and {len(second)} values")
    return _sample(first) - _sample(second)


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
