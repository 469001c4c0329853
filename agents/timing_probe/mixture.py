"""Counts the exits behind a set of times: Gaussian mixtures on a line, chosen by ICL.

Each component has a variance of its own, because noise grows with depth, and a flat background
takes in stray answers. The number of components is the one of the least ICL; BIC stands beside
it, because BIC splits skewed peaks when the sample grows: where they disagree, the number is not
identified.

Source:
    Biernacki, Celeux and Govaert 2000, Assessing a mixture model for clustering with the
    integrated completed likelihood; Banfield and Raftery 1993 for the background.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agents.timing_probe.kmeans import Floats, Ints, centres, split

MOST_COMPONENTS = 14
RESOLUTION = 0.005
"""Centres of log-times nearer than half a percent count as one exit."""

_NOISE_APART = 5  # deviations of the noise between two exits: its tails look like peaks
_ALIKE = 0.15  # log-time by which real answers of one exit differ: work depends on the image
_SINGLE = 1.5  # answers; one image that is always slow is no exit: tiny numbers slow a processor
LEAST_WEIGHT = 0.004
_COMMON = 0.05
_SCATTERED = 5  # a rare component this much wider than the common ones gathers stray answers
_FLOOR = 1e-3  # standard deviation of a log-time; an exact clock must not make likelihoods infinite
_PATIENCE = 4  # numbers of components tried beyond the best of both criteria
_STEPS, _TOLERANCE = 200, 2e-6  # of the mean log-likelihood
_STRAY = 0.1  # share of stray answers above which peaks do not explain the times
_WIDE = 0.03  # a peak wider than this may hide several exits
_SPREAD = 3.0  # deviations of a variance by which a peak may exceed its images' noise
_SPLIT = 2.5  # two exits of equal weight under one peak widen it to half their distance


class Peaks(NamedTuple):
    """Components in rising order.

    Attributes:
        means: (k,) of the log-times.
        deviations: (k,) standard deviations.
        weights: (k,) shares of the answers; with the background's they sum to 1.
        background: the share of stray answers.
    """

    means: Floats
    deviations: Floats
    weights: Floats
    background: float


class Fit(NamedTuple):
    """A mixture with its two criteria; the lower the better."""

    peaks: Peaks
    bic: float
    icl: float


@dataclass(frozen=True, eq=False, slots=True)
class ExitCount:
    """How many exits a set of times shows.

    Attributes:
        peaks: one per exit that can be told apart, after rare and coinciding ones are gone.
        by_bic: how many exits BIC would have counted.
        finest: least distance between two peaks of BIC's mixture; inf for one.
        criteria: (components, BIC, ICL) of every mixture that was fitted.
        separation: least distance of adjacent centres in standard deviations; inf for one exit.
        confidence: belief in the count, 0 to 1.
        flat: density of the background, per unit of log-time.
    """

    peaks: Peaks
    by_bic: int
    finest: float
    criteria: tuple[tuple[int, float, float], ...]
    separation: float
    confidence: float
    flat: float

    @property
    def exits(self) -> int:
        """Exits that can be told apart."""
        return len(self.peaks.means)

    @property
    def identified(self) -> bool:
        """Whether both criteria agree."""
        return self.by_bic == self.exits

    def resolved(self, finest: float = math.inf) -> bool:
        """Tell whether repeats would not help: peaks are narrow and far apart.

        Args:
            finest: log-time between two suspected exits that no peak may hide.
        """
        widest = float(self.peaks.deviations.max())
        return self.separation >= 5 and widest <= min(_WIDE, finest / _SPLIT)

    def assign(self, times: Floats) -> tuple[Ints, Floats]:
        """Assign (n,) log-times to exits.

        Returns:
            (n,) the most likely exit, counted from 0, or -1 for a stray; (n,) its probability.
        """
        shares, _ = _responsibilities(times, self.peaks, self.flat)
        best = shares.argmax(1)
        return np.where(best == self.exits, -1, best).astype(np.int64), shares.max(1)

    def boundaries(self) -> Floats:
        """Return the (exits - 1,) log-times at which the likelier of two neighbours changes."""
        means, spread = self.peaks.means, self.peaks.deviations
        steps = spread[:-1] / (spread[:-1] + spread[1:])
        return np.asarray(means[:-1] + steps * np.diff(means))


def count_exits(
    times: Floats, *, noise: Floats | None = None, most: int = MOST_COMPONENTS
) -> ExitCount:
    """Count the exits behind the times of distinct inputs.

    The same times give the same count; nothing is drawn.

    Args:
        times: (n,) log-times, n at least 2.
        noise: (n,) standard deviations of the times, where repeats of a real clock told them. A
            peak nearer than 0.15, or than five of them, to another is none, since noise is no
            Gaussian, and neither is a single time.
        most: components at most.
    """
    order = np.argsort(times, kind="stable")
    ordered = times[order]
    known = None if noise is None else noise[order]
    span = float(ordered[-1] - ordered[0])
    flat = 1 / max(span, 20 * _FLOOR)  # never denser than a peak
    limit = 1 if span < RESOLUTION else min(most, len(ordered) // 4 or 1)
    floor = _FLOOR if known is None else max(_FLOOR, 0.5 * float(np.median(known)))
    fits = _fits(ordered, flat, limit, floor=floor)
    told = [_told_apart(fit.peaks, ordered, known, flat) for fit in fits]
    peaks = told[int(np.argmin([fit.icl for fit in fits]))]
    bic_peaks = told[int(np.argmin([fit.bic for fit in fits]))].means
    by_bic, separation = len(bic_peaks), _separation(peaks)
    doubts = (by_bic != len(peaks.means), separation < 3, *_doubts(peaks, ordered, known, flat))
    return ExitCount(
        peaks=peaks,
        by_bic=by_bic,
        finest=float(np.diff(bic_peaks).min()) if by_bic > 1 else math.inf,
        criteria=tuple((len(fit.peaks.means), fit.bic, fit.icl) for fit in fits),
        separation=separation,
        confidence=_posterior(fits, told, len(peaks.means)) * 0.5 ** sum(doubts),
        flat=flat,
    )


def _fits(ordered: Floats, flat: float, most: int, *, floor: float) -> list[Fit]:
    """Fit 1, 2, .. components until neither criterion has fallen for a while."""
    fits: list[Fit] = []
    for starts in split(ordered, most):
        if fits and len(starts) <= len(fits[-1].peaks.means):
            break  # more groups than different numbers
        fits.append(_fit(ordered, starts, flat, floor=floor))
        since = [
            len(fits) - 1 - int(np.argmin([getattr(fit, name) for fit in fits]))
            for name in ("bic", "icl")
        ]
        if min(since) >= _PATIENCE:
            break
    return fits


def _fit(ordered: Floats, starts: list[int], flat: float, *, floor: float) -> Fit:
    """Climb to a likely mixture from the groups that begin at `starts`."""
    parts = np.split(ordered, starts[1:])
    counts = np.asarray([len(part) for part in parts], dtype=np.float64)
    deviations = np.asarray([max(float(part.std()), floor) for part in parts])
    stray = 0.5 / len(ordered)
    peaks = Peaks(centres(ordered, starts), deviations, (1 - stray) * counts / counts.sum(), stray)
    before = -np.inf
    for _ in range(_STEPS):
        shares, likelihood = _responsibilities(ordered, peaks, flat)
        if likelihood - before < _TOLERANCE * len(ordered):
            break
        before = likelihood
        peaks = _maximised(ordered, shares, floor)
    shares, likelihood = _responsibilities(ordered, peaks, flat)
    free = 3 * len(peaks.means)  # weights with the background's, which sum to 1; means; variances
    bic = -2 * likelihood + free * float(np.log(len(ordered)))
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(shares > 0, shares, 1.0))
    return Fit(peaks, bic, bic - 2 * float((shares * logs).sum()))


def _responsibilities(times: Floats, peaks: Peaks, flat: float) -> tuple[Floats, float]:
    """Return (n, k + 1) shares of the components, the background last, and the log-likelihood."""
    scaled = (times[:, None] - peaks.means) / peaks.deviations
    with np.errstate(divide="ignore"):  # a component may have died out
        logs = np.log(peaks.weights) - np.log(peaks.deviations) - 0.5 * np.log(2 * np.pi)
        stray = np.log(peaks.background * flat)
    parts = np.column_stack([logs - 0.5 * scaled**2, np.full(len(times), stray)])
    top = parts.max(1, keepdims=True)
    shares = np.exp(parts - top)
    total = shares.sum(1, keepdims=True)
    return shares / total, float((top + np.log(total)).sum())


def _maximised(times: Floats, shares: Floats, floor: float) -> Peaks:
    weight = np.maximum(shares[:, :-1].sum(0), 1e-12)
    means = (shares[:, :-1] * times[:, None]).sum(0) / weight
    squares = (shares[:, :-1] * (times[:, None] - means) ** 2).sum(0) / weight
    deviations = np.maximum(np.sqrt(squares), floor)
    return Peaks(means, deviations, weight / len(times), float(shares[:, -1].mean()))


def _told_apart(peaks: Peaks, times: Floats, noise: Floats | None, flat: float) -> Peaks:
    """Drop rare and scattered components, and merge coinciding ones."""
    common = peaks.weights >= _COMMON
    typical = float(np.median(peaks.deviations[common])) if common.any() else math.inf
    scattered = ~common & (peaks.deviations > _SCATTERED * typical)
    least = LEAST_WEIGHT if noise is None else max(LEAST_WEIGHT, _SINGLE / len(times))
    likely = (peaks.weights >= least) & ~scattered
    likely[np.argmax(peaks.weights)] = True
    kept = [int(k) for k in np.argsort(peaks.means) if likely[k]]
    own = _own_noise(peaks, times, noise, flat)
    groups = [[kept[0]]]
    for k in kept[1:]:
        last = groups[-1][-1]
        known = RESOLUTION if noise is None else _ALIKE
        apart = max(known, _NOISE_APART * float(max(own[k], own[last])))
        near = peaks.means[k] - peaks.means[last] < apart
        groups[-1].append(k) if near else groups.append([k])
    merged = [_merged(peaks, group) for group in groups]
    means, deviations, weights = (np.asarray(column) for column in zip(*merged, strict=True))
    return Peaks(means, deviations, weights, max(0.0, 1 - float(weights.sum())))


def _own_noise(peaks: Peaks, times: Floats, noise: Floats | None, flat: float) -> Floats:
    """Average the (n,) noise over each peak's answers: a short answer is disturbed more."""
    if noise is None:
        return np.zeros(len(peaks.means))
    shares = _responsibilities(times, peaks, flat)[0][:, :-1]
    return np.asarray((shares * noise[:, None]).sum(0) / np.maximum(shares.sum(0), 1e-12))


def _merged(peaks: Peaks, group: list[int]) -> tuple[float, float, float]:
    weights = peaks.weights[group]
    share = weights / weights.sum()
    mean = float((share * peaks.means[group]).sum())
    spread = peaks.deviations[group] ** 2 + (peaks.means[group] - mean) ** 2
    return mean, float(np.sqrt((share * spread).sum())), float(weights.sum())


def _separation(peaks: Peaks) -> float:
    if len(peaks.means) == 1:
        return math.inf
    widest = np.maximum(peaks.deviations[:-1], peaks.deviations[1:])
    return float((np.diff(peaks.means) / widest).min())


def _posterior(fits: list[Fit], told: list[Peaks], exits: int) -> float:
    """Return the share of ICL's weights that is on mixtures of so many exits."""
    icl = np.asarray([fit.icl for fit in fits])
    weights = np.exp(-0.5 * (icl - icl.min()))
    counts = np.asarray([len(peaks.means) for peaks in told])
    # a part may come to more than the whole, by rounding
    return min(1.0, float(weights[counts == exits].sum() / weights.sum()))


def _doubts(peaks: Peaks, times: Floats, noise: Floats | None, flat: float) -> tuple[bool, bool]:
    """Tell whether too many answers belong to no peak, and whether a peak may hide several."""
    stray, limits = _STRAY, np.full(len(peaks.means), 1.5 * _WIDE)
    if noise is not None:
        # repeats agree on what they show, so that two strays may be an exit
        stray = _SINGLE / len(times)
        answers = np.maximum(peaks.weights * len(times), 1)
        spread = np.sqrt(1 + _SPREAD * np.sqrt(2 / answers))
        limits = np.maximum(limits, _own_noise(peaks, times, noise, flat) * spread)
    return peaks.background > stray, bool((peaks.deviations > limits).any())
