"""Computes intervals of a mean over seeds, and the seeds that a narrower one needs.

An episode is one draw; its seed is the unit of repetition. scipy does the mathematics.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

RESAMPLES = 9_999
"""Draws of the bootstrap."""

_SAME = 1e-12
"""Values that lie no further apart are the same, but for rounding."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and how far it may be off.

    Attributes:
        mean: of the values.
        low, high: ends of the interval; None where one value says nothing about its spread.
        n: how many values.
        confidence: how often such an interval holds the true mean, 0 to 1.
        alike: several values, and all of them the same.
    """

    mean: float
    low: float | None
    high: float | None
    n: int
    confidence: float = 0.95
    alike: bool = False

    @property
    def known(self) -> bool:
        """Whether there is an interval at all; a single value has none."""
        return self.low is not None

    @property
    def half_width(self) -> float | None:
        """Half the distance between the ends, None where they are unknown."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def is_point(self) -> bool:
        """Whether both ends are known and the same, but for rounding."""
        return self.low is not None and self.high is not None and self.high - self.low < _SAME

    def within(self, low: float, high: float) -> "Interval":
        """Cut the ends to a range the true mean cannot leave; the coverage stays."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, low), high=min(self.high, high))

    def widened(self, variance: float) -> "Interval":
        """Add an independent normal error of the mean, such as that of the test images.

        Each end moves so far that the squares of both distances from the mean add up.

        Source:
            Zou and Donner 2008, "Construction of confidence limits about effect measures",
            Statistics in Medicine 27.
        """
        if self.low is None or self.high is None:
            return self
        error = normal_reach(variance, self.confidence)
        return replace(
            self,
            low=self.mean - math.hypot(self.mean - self.low, error),
            high=self.mean + math.hypot(self.high - self.mean, error),
        )

    def __str__(self) -> str:
        percent = f"{100 * self.confidence:g} %"
        if self.low is None or self.high is None:
            return f"{self.mean:.4g} (one value: no interval)"
        return f"{self.mean:.4g} ({percent} interval {self.low:.4g} to {self.high:.4g}, n={self.n})"


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Give the mean and its Student t interval.

    One value has no interval: `low` and `high` are None.

    Raises:
        ValueError: no value, one that is not finite, or a confidence outside (0, 1).
    """
    sample = sample_of(values)
    _check_confidence(confidence)
    mean, n = float(sample.mean()), len(sample)
    if n == 1:
        return Interval(mean, None, None, 1, confidence)
    reach = t_reach(float(sample.std(ddof=1)), n, confidence)
    return Interval(mean, mean - reach, mean + reach, n, confidence, bool(np.ptp(sample) < _SAME))


def share_interval(hits: int, of: int) -> Interval:
    """Give a share of independent cases with its Wilson interval at 95%.

    Raises:
        ValueError: no case, or hits outside 0 to `of`.

    Source:
        Wilson 1927, "Probable inference, the law of succession, and statistical inference",
        Journal of the American Statistical Association 22.
    """
    if of < 1 or not 0 <= hits <= of:
        raise ValueError(f"expected 0 to {of} hits of at least one case, got {hits} of {of}")
    # written out: scipy.stats takes a second to import
    share, z = hits / of, float(ndtri(0.975))
    middle, whole = share + z * z / (2 * of), 1 + z * z / of
    reach = z * math.sqrt(share * (1 - share) / of + (z / (2 * of)) ** 2)
    low = 0.0 if hits == 0 else (middle - reach) / whole
    return Interval(share, low, 1.0 if hits == of else (middle + reach) / whole, of)


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
    sample = sample_of(values)
    _check_confidence(confidence)
    mean, n = float(sample.mean()), len(sample)
    if n == 1:
        return Interval(mean, None, None, 1, confidence)
    if np.ptp(sample) < _SAME:  # the acceleration is 0/0 there
        return Interval(mean, mean, mean, n, confidence, alike=True)
    from scipy import stats  # it takes seconds to import, with what it needs

    ends = stats.bootstrap(
        (sample,),
        np.mean,
        n_resamples=resamples,
        confidence_level=confidence,
        method="BCa",
        rng=generator,
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high), n, confidence)


def seeds_needed(
    values: Sequence[float], half_width: float, *, variance: float = 0.0, confidence: float = 0.95
) -> int | None:
    """Count the seeds after which the t interval is expected to reach `half_width`.

    It takes the spread of the values so far for the true one. `variance` is that of the test
    images, by which the interval is widened.

    Returns:
        at least 2, or None where one value says nothing about the spread and where no number of
        seeds suffices.

    Raises:
        ValueError: as `mean_interval`, or `half_width` is not above 0.
    """
    sample = sample_of(values)
    _check_confidence(confidence)
    if not half_width > 0:
        raise ValueError(f"expected a half width above 0, got {half_width}")
    left = half_width**2 - normal_reach(variance, confidence) ** 2
    if len(sample) == 1 or left <= 0:
        return None
    spread, wanted = float(sample.std(ddof=1)), math.sqrt(left)
    few, many = 1, 2
    while t_reach(spread, many, confidence) > wanted:
        few, many = many, 2 * many
    while many - few > 1:  # the reach falls with every seed, so halving finds the first
        middle = (few + many) // 2
        if t_reach(spread, middle, confidence) > wanted:
            few = middle
        else:
            many = middle
    return many


def t_reach(spread: float, n: int, confidence: float) -> float:
    """Give half the width of the t interval of n values with this standard deviation."""
    return float(stdtrit(n - 1, (1 + confidence) / 2)) * spread / math.sqrt(n)


def normal_reach(variance: float, confidence: float) -> float:
    """Give half the width of the normal interval of a mean with this variance."""
    return float(ndtri((1 + confidence) / 2)) * math.sqrt(variance)


def mean_of(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Return means along an axis, as scipy's resampling calls it."""
    return np.asarray(values.mean(axis=axis))


def sample_of(values: Sequence[float]) -> NDArray[np.float64]:
    """Return the values as an array (n,).

    Raises:
        ValueError: none are given, or one is not finite.
    """
    sample = np.asarray(values, dtype=np.float64)
    if sample.ndim != 1 or len(sample) == 0:
        raise ValueError(f"expected a list of at least one value, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("expected finite values, got NaN or infinity")
    return sample


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
