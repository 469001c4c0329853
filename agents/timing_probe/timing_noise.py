"""Takes the noise out of times: what kind it is, what drifts, and how repeats are summed up.

All times are natural logarithms of seconds, since a server's noise and drift multiply.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from agents.timing_probe.kmeans import Floats, Ints
from agents.timing_probe.mixture import RESOLUTION, count_exits

Statistic = Literal["minimum", "low", "mean"]
"""How repeats of an input are summed up; "low" is the 10th percentile."""

WINDOWS = (0, 2, 4, 8, 16)
"""Neighbouring references a drift may be read from; 0 takes it to be constant."""

_ONE_SIDED = 0.2  # skewness: 0.46 of an exponential, 0 of a Gaussian; 50 samples err by 0.15
_DRIFTING = 0.15  # lag-1 correlation; 30 samples err by 0.18, and too low on average
_ROUGH = 0.1  # deviation of log-times: others are at work on that machine
_SHARED = 0.35  # and from here on, with hardly a doubt
_LIVELY = (
    0.01  # of log-time, from the median down to one answer in twenty, where something computes
)
_ONE_SIDE = 0.5  # of the same upwards; 1 of a Gaussian, 0.23 of an exponential
_HIDING = 0.25  # of log-time upwards, where others are at work
_ROUNDING = 1e-9  # of log-times that are all the same
_SHORTEST = 1e-9  # seconds; a clock that shows 0 must have a logarithm
_EXACT = 1e-9  # of the longest time: what rounding makes of a multiple
_GAIN = 0.95  # a window must lower the deviation by this factor to be worth its noise


@dataclass(frozen=True, slots=True)
class NoiseFit:
    """What repeats of one input say about the clock.

    Attributes:
        deviation: standard deviation of the log-times.
        skew: Kelly's skewness of the seconds, -1 to 1; moments would follow stray answers.
        memory: correlation of one log-time with the next.
        fresh_exits: whether one input leaves at several exits, so that each answer counts alone.
        batched: whether images of one request delay each other, so that each goes alone.
    """

    deviation: float
    skew: float
    memory: float
    fresh_exits: bool
    batched: bool

    @property
    def drifts(self) -> bool:
        """Whether neighbouring times share a disturbance."""
        return self.memory > _DRIFTING

    @property
    def statistic(self) -> Statistic:
        """Return how to sum repeats up: jitter that only adds leaves the minimum clean."""
        if self.memory > _SHARED or self.deviation > _ROUGH:
            return "low"
        return "minimum" if self.skew > _ONE_SIDED else "mean"


def log_times(seconds: Tensor) -> Floats:
    """Return the logarithms of (n,) seconds; a clock that shows 0 has seen a nanosecond."""
    return np.log(np.maximum(seconds.detach().cpu().numpy().astype(np.float64), _SHORTEST))


def calibrate(alone: Floats, together: Floats, *, same_answers: bool) -> NoiseFit:
    """Learn about the clock from repeats of one input.

    Args:
        alone: (m,) log-times of requests of one image, m at least 2.
        together: (n,) log-times of one request of n copies, n at least 2.
        same_answers: whether all repeats got the same posteriors, which rules out that they left
            at different exits; False where only labels are seen.
    """
    same_moment = float(np.ptp(together)) == 0 < float(np.ptp(alone))
    slower = float(np.median(together) - np.median(alone)) > math.log(1.5)
    # copies in one request wait for each other alike, so that groups among them are exits
    fresh_exits = not same_answers and _shows_exits(together)
    batched = same_moment or (slower and not fresh_exits)
    times = alone if batched else np.concatenate([alone, together])
    return NoiseFit(
        deviation=float(times.std()),
        skew=skewness(times),
        memory=_memory(times),
        fresh_exits=fresh_exits,
        batched=batched,
    )


def skewness(times: Floats) -> float:
    """Return Kelly's skewness of the seconds behind (n,) log-times, from their deciles."""
    low, middle, high = np.quantile(np.exp(times - np.median(times)), (0.1, 0.5, 0.9))
    spread = float(high - low)
    return float(high + low - 2 * middle) / spread if spread > _ROUNDING else 0.0


def summarise(times: Floats, statistic: Statistic) -> Floats:
    """Sum (n, repeats) log-times of n inputs up to (n,)."""
    if statistic == "minimum":
        return np.asarray(times.min(1))
    return np.asarray(times.mean(1) if statistic == "mean" else np.quantile(times, 0.1, axis=1))


def has_floor(times: Floats, *, rough: bool = False) -> bool:
    """Tell whether answers may wait for one moment: none is early, and what comes on top only adds.

    Computing varies to both sides. Padding does not, nor does a machine so busy that whatever it
    adds hides how computing varies.

    Args:
        times: log-times of single answers, in any shape.
        rough: whether others are at work on the machine, so that late answers hide the rest.
    """
    low, middle, high = np.quantile(times, (0.05, 0.5, 0.95))
    below, above = float(middle - low), float(high - middle)
    return below < _LIVELY or below < _ONE_SIDE * above or (rough and above > _HIDING)


def step_of_clock(times: Floats) -> float:
    """Return the seconds of which all times are multiples; 0 where a clock shows any time.

    Such a clock shows two exits within one step as one, and one whose noise crosses a step as two.
    Steps finer than what is told apart count as none.

    Args:
        times: log-times of single answers, in any shape.
    """
    shown = np.unique(np.exp(times))
    least = _EXACT * float(shown[-1])
    values = shown[shown > least].tolist()
    if len(values) < 2 or 2 * len(values) > times.size:  # times of a fine clock never meet
        return 0.0
    step = common_step(values, least)
    return step if step > RESOLUTION * values[0] else 0.0


def common_step(values: Sequence[float], least: float) -> float:
    """Return the number of which all values, at least one and all above `least`, are multiples.

    By Euclid's algorithm, where remainders of at most `least` are rounding.
    """
    step = values[0]
    for value in values[1:]:
        larger, rest = value, step
        while rest > least:
            larger, step, rest = rest, rest, abs(larger - rest * round(larger / rest))
    return step


def mean_of_fastest(times: Floats, share: float) -> Floats:
    """Sum (n, repeats) log-times up to the log of the mean of each input's fastest seconds.

    Args:
        times: as said.
        share: of the repeats, above 0; one repeat at least.
    """
    count = max(1, round(share * times.shape[1]))
    return np.asarray(np.log(np.sort(np.exp(times), axis=1)[:, :count].mean(1)))


def repeat_noise(times: Floats, share: float) -> Floats:
    """Return the (n,) standard deviations of `mean_of_fastest`, from halves of the repeats.

    The halves are those of even and of odd repeats of one input, which left at one exit.

    Args:
        times: (n, repeats) log-times, 2 repeats or more.
        share: as there.
    """
    halves = mean_of_fastest(times[:, ::2], share) - mean_of_fastest(times[:, 1::2], share)
    # half of the halves' difference deviates as the whole does, and by 0.8 of it on average
    return np.asarray(np.abs(halves) / 2 * math.sqrt(math.pi / 2))


def drift_at(
    positions: Floats, references: Floats, reference_positions: Floats, *, window: int
) -> Floats:
    """Estimate the drift at some queries from the references around them.

    Args:
        positions: (n,) indices of queries.
        references: (m,) log-times of the reference input.
        reference_positions: (m,) their indices, rising.
        window: references that each estimate is the median of; 0 gives no drift.

    Returns:
        (n,) to subtract from the log-times, 0 where there is no drift.
    """
    if window == 0 or len(references) < window:
        return np.zeros(len(positions))
    return _medians(positions, references, reference_positions, window) - np.median(references)


def best_window(references: Floats, positions: Floats) -> int:
    """Choose how many references to read a drift from: those that predict a reference best."""
    if len(references) < 2 * WINDOWS[-1]:
        return 0
    errors = {window: _prediction_error(references, positions, window) for window in WINDOWS}
    best = min(errors, key=lambda window: errors[window])
    return best if errors[best] < _GAIN * errors[0] else 0


def _prediction_error(references: Floats, positions: Floats, window: int) -> float:
    """Return the robust deviation of references from what their neighbours predict."""
    if window == 0:
        error = references - np.median(references)
    else:
        # one neighbour more, since a reference is its own nearest
        nearest = _nearest(positions, positions, window + 1)
        others = nearest != np.arange(len(references))[:, None]
        others[others.all(1), -1] = False
        kept = nearest[others].reshape(len(references), window)
        error = references - np.median(references[kept], axis=1)
    return float(np.median(np.abs(error)))


def _medians(at: Floats, references: Floats, positions: Floats, window: int) -> Floats:
    return np.asarray(np.median(references[_nearest(at, positions, window)], axis=1))


def _nearest(at: Floats, positions: Floats, count: int) -> Ints:
    """Return the (n, count) indices of the references around each query, half on each side."""
    first = np.searchsorted(positions, at) - count // 2
    first = np.clip(first, 0, len(positions) - count)
    return np.asarray(first[:, None] + np.arange(count), dtype=np.int64)


def _memory(times: Floats) -> float:
    centred = times - np.median(times)
    power = float((centred**2).sum())
    if power <= len(times) * _ROUNDING**2:
        return 0.0
    return float((centred[1:] * centred[:-1]).sum()) / power


def _shows_exits(times: Floats) -> bool:
    """Tell whether repeats of one input fall into groups, each with a fair share.

    A few slow answers are no group: an interrupted machine makes those too.
    """
    if len(times) < 16:
        return False
    count = count_exits(times, most=5)
    return (
        count.exits > 1
        and bool(count.separation > 5)
        and bool(np.sort(count.peaks.weights)[-2] >= 0.2)
    )
