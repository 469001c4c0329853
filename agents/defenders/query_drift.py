"""Tells a client who explores a model from one who uses it, by the distances of its queries.

Source:
    Juuti et al. 2019, PRADA: protecting against DNN model stealing attacks, EuroS&P,
    arXiv:1805.02628; the coefficient of Shapiro and Francia 1972, JASA 67, stands for the
    one of Shapiro and Wilk.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_HASH_SEED = 0x5DEECE66D
_REPEATS = 8192
"""Fingerprints kept per client; 64 KiB."""


def shapiro_francia(values: Tensor) -> Tensor:
    """Measure how normal a sample is: the squared correlation with the normal order statistics.

    It is Shapiro and Wilk's W with unit covariance. Their tables end at n = 50 and every further
    n needs an approximation; this one is a correlation, and runs on the device.

    Args:
        values: (n,) float, n at least 3.

    Returns:
        0-d float64 in [0, 1]; 1 where the sample lies on a normal, 0 where it has no spread.

    Source:
        Order statistics by Blom 1958: inverse normal of (i - 3/8) / (n + 1/4).
    """
    ordered = values.double().sort().values
    ranks = torch.arange(1, len(ordered) + 1, dtype=torch.float64, device=values.device)
    scores = torch.special.ndtri((ranks - 0.375) / (len(ordered) + 0.25))
    centred = ordered - ordered.mean()
    spread = centred.square().sum() * scores.square().sum()
    squared: Tensor = (centred @ scores).square() / spread.clamp_min(1e-300)
    return squared


def without_far(values: Tensor, *, deviations: float = 3.0, share: float = 0.1) -> Tensor:
    """Drop what lies far above the rest, a tenth of the sample at most.

    A benign user's odd image lies far from all others; what an explorer does lies near. So only
    the upper side is trimmed, where PRADA drops outliers of both.

    Args:
        values: (n,) float.
        deviations: limit above the median, in standard deviations as the median absolute
            deviation estimates them.
        share: of the sample that may be dropped.

    Returns:
        (at least (1 - share) n,) sorted.
    """
    ordered = values.sort().values
    median = ordered.median()
    limit = median + deviations * 1.4826 * (ordered - median).abs().median()
    far = min(int((ordered > limit).sum()), int(share * len(ordered)))
    return ordered[: len(ordered) - far]


def fingerprints(images: Tensor) -> Tensor:
    """Hash images by every bit of every pixel; equal images have equal hashes.

    Args:
        images: (n, c, h, w) float32.

    Returns:
        (n,) int64.
    """
    bits = images.flatten(1).contiguous().view(torch.int32).long()
    generator = torch.Generator().manual_seed(_HASH_SEED)
    weights = torch.randint(1, 2**62, (bits.shape[1],), generator=generator)
    # int64 arithmetic wraps, which is what a multiply-add hash wants
    return (bits * (2 * weights + 1).to(bits.device)).sum(1)


class History:
    """What one client asked, and how far each new query lay from the nearest before.

    Distances are taken among queries of one served label. Exact repeats have none: benign users
    ask again what they asked before. Queries are worked off in blocks of fixed size, so that how
    a client splits them into requests changes nothing.

    Args:
        memory: latest distinct queries that are kept for comparison.
        window: latest distances that are kept.
        block: queries worked off at once.
        repeats: latest fingerprints of distinct queries that are kept.

    Attributes:
        distances: (at most window,) float32, the latest, oldest first.
        asked: queries worked off.
        measured: distances measured among them.

    Notes:
        PRADA keeps, per class, the queries that lie far from those kept before, without end. An
        attacker decides how much that is, so the memory here is a ring.
    """

    def __init__(self, *, memory: int, window: int, block: int, repeats: int) -> None:
        self._memory, self._window, self._block = memory, window, block
        self._repeats = repeats
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_count = self.asked = self.measured = 0
        self._kept: tuple[Tensor, Tensor, Tensor] | None = None  # images, labels, fingerprints
        self.distances = torch.empty(0)

    def add(self, images: Tensor, labels: Tensor) -> int:
        """Take queries with the labels served; returns how many blocks were worked off.

        Args:
            images: (n, c, h, w) float32.
            labels: (n,) int64, on the same device.
        """
        # a copy, because the images may share memory with a player's
        self._waiting.append((images.clone(), labels))
        self._waiting_count += len(images)
        blocks = self._waiting_count // self._block
        if blocks == 0:
            return 0
        asked = torch.cat([part for part, _ in self._waiting])
        served = torch.cat([part for _, part in self._waiting])
        for number in range(blocks):
            rows = slice(number * self._block, (number + 1) * self._block)
            self._work_off(asked[rows], served[rows])
        rest = blocks * self._block
        self._waiting = [(asked[rest:].clone(), served[rest:].clone())] if rest < len(asked) else []
        self._waiting_count = len(asked) - rest
        return blocks

    def _work_off(self, images: Tensor, labels: Tensor) -> None:
        points, prints = images.flatten(1), fingerprints(images)
        if self._kept is None:
            self._kept = points[:0], labels[:0], prints[:0]
            self.distances = points.new_empty(0)
        known_points, known_labels, known_prints = self._kept
        fresh = _first_of_kind(prints) & ~torch.isin(prints, known_prints)
        points, labels, prints = points[fresh], labels[fresh], prints[fresh]
        nearest = nearest_before(points, labels, known_points, known_labels)
        found = nearest[torch.isfinite(nearest)]
        self.distances = torch.cat([self.distances, found])[-self._window :]
        self._kept = (
            torch.cat([known_points, points])[-self._memory :],
            torch.cat([known_labels, labels])[-self._memory :],
            torch.cat([known_prints, prints])[-self._repeats :],
        )
        self.asked += len(images)
        self.measured += len(found)


def nearest_before(
    points: Tensor, labels: Tensor, known_points: Tensor, known_labels: Tensor
) -> Tensor:
    """Measure how far each query lay from the nearest earlier one of its label.

    Args:
        points: (n, d) queries in the order they were asked.
        labels: (n,) labels served to them.
        known_points: (m, d) queries asked before all of them.
        known_labels: (m,) labels served to those.

    Returns:
        (n,) Euclidean distances; infinite where there was none of the label.
    """
    # the quick way by matrix products loses distances below 1e-3, which tell most
    exact = "donot_use_mm_for_euclid_dist"
    older = torch.cdist(points, known_points, compute_mode=exact)
    older = older.masked_fill(labels[:, None] != known_labels[None], math.inf)
    among = torch.cdist(points, points, compute_mode=exact)
    later = torch.ones_like(among, dtype=torch.bool).triu()
    among = among.masked_fill(later | (labels[:, None] != labels[None]), math.inf)
    return torch.cat([older, among], 1).amin(1)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a test saw in one client's queries.

    Attributes:
        reason: "shape" or "place", the rule that was broken; "" where neither was.
        normality: coefficient of `shapiro_francia`, the far ones left out.
        median: median distance.
        asked: queries of the client so far.
    """

    reason: str
    normality: float
    median: float
    asked: int


class DriftTest:
    """Tests one client every so often; see `agents/defenders/detector.py` for what was measured.

    Args:
        normality: coefficient below which distances are suspicious ("shape").
        band: least and largest median distance of an ordinary client ("place"); none where absent.
        window: distances a test looks at.
        every: distances between two tests.
        memory: latest distinct queries that are kept.
    """

    def __init__(
        self,
        *,
        normality: float,
        band: Sequence[float] | None,
        window: int,
        every: int,
        memory: int,
    ) -> None:
        self._normality, self._band = normality, band
        self._window, self._every = window, every
        self._history = History(
            memory=memory, window=window, block=every, repeats=max(memory, _REPEATS)
        )
        self._tested = 0

    @property
    def asked(self) -> int:
        """Queries of the client that were looked at."""
        return self._history.asked

    def add(self, images: Tensor, labels: Tensor) -> list[Evidence]:
        """Take a request and the labels served; returns the tests that fell due, often none."""
        evidence: list[Evidence] = []
        for start in range(0, len(images), self._every):  # so that a large request misses no test
            rows = slice(start, start + self._every)
            worked_off = self._history.add(images[rows], labels[rows])
            fresh = self._history.measured - self._tested
            full = self._history.measured >= self._window
            if worked_off and full and fresh >= self._every:
                self._tested = self._history.measured
                evidence.append(self._judge())
        return evidence

    def _judge(self) -> Evidence:
        distances = self._history.distances
        normality = float(shapiro_francia(without_far(distances)))
        median = float(distances.median())
        reason = ""
        if normality < self._normality:
            reason = "shape"
        elif self._band is not None and not self._band[0] <= median <= self._band[1]:
            reason = "place"
        return Evidence(reason, normality, median, self.asked)


def _first_of_kind(values: Tensor) -> Tensor:
    """Mark the first of equal values; (n,) to (n,) bool."""
    kinds, kind = torch.unique(values, return_inverse=True)
    order = torch.arange(len(values), device=values.device)
    first = order.new_full((len(kinds),), len(values)).scatter_reduce_(0, kind, order, "amin")
    return first[kind] == order
