"""How much of the victim's feature plane each account has asked about: QUEEN's bookkeeping."""

from collections.abc import Sequence

import torch
from torch import Tensor


def region_of(points: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return centre and mean distance from it of each class.

    Args:
        points: (n, d) of the training images.
        labels: (n,) int64.
        classes: K.

    Returns:
        (K, d) centres and (K,) mean distances; a class without points has NaN, so that no query
        lies within its region.
    """
    centres = torch.stack([points[labels == k].mean(0) for k in range(classes)])
    apart = (points - centres[labels]).norm(dim=1)
    return centres, torch.stack([apart[labels == k].mean() for k in range(classes)])


def query_sensitivity(apart: Tensor, radius: Tensor, alpha: float) -> Tensor:
    """Return 0.5 erfc(alpha (s - R) / R) of distances s from the centre: 1 near it, 0 far off."""
    score: Tensor = 0.5 * torch.erfc(alpha * (apart - radius) / radius)
    return score


class Coverage:
    """Remembers what one account asked in the sensitive regions, and adds up what it covers.

    Args:
        centres: (K, 2) of the classes.
        radii: (K,) of their sensitive regions, R.
        spacing: r, within which a query repeats an earlier one.
        limit: theta, of the cumulative sensitivity of a class.
        alpha: of the sensitivity of a query.

    Attributes:
        covered: (K,) float64, the cumulative sensitivity of each class.
    """

    def __init__(
        self, centres: Tensor, radii: Tensor, *, spacing: float, limit: float, alpha: float
    ) -> None:
        self._centres, self._radii = centres, radii
        self._spacing, self._limit, self._alpha = spacing, limit, alpha
        self._asked: list[Tensor] = [centres[:0]] * len(centres)
        self.covered = torch.zeros(len(centres), dtype=torch.float64)

    @property
    def recorded(self) -> Sequence[int]:
        """Queries remembered of each class."""
        return [len(points) for points in self._asked]

    def take(self, points: Tensor, labels: Tensor) -> Tensor:
        """Take queries in their order, and tell which of them get a reversed answer.

        A query is sensitive if it lies within its class's region and repeats no recorded one. It
        is recorded while the class's cumulative sensitivity is at most the limit, and adds
        SQS^2 (r / R)^2 to it; above the limit its answer is to be reversed.

        Args:
            points: (n, 2) float64.
            labels: (n,) int64, the classes that the victim sees.

        Returns:
            (n,) bool.
        """
        apart = (points - self._centres[labels]).norm(dim=1)
        inside = apart < self._radii[labels]
        found = torch.zeros_like(inside)
        for k in labels[inside].unique().tolist():
            rows = ((labels == k) & inside).nonzero().squeeze(1)
            found[rows] = self._take_class(k, points[rows], apart[rows])
        return found

    def _take_class(self, k: int, points: Tensor, apart: Tensor) -> Tensor:
        waiting = self._unlike(points, self._asked[k])
        scores = query_sensitivity(apart, self._radii[k], self._alpha).square()
        worth = (scores * (self._spacing / self._radii[k]) ** 2).tolist()
        while bool(waiting.any()) and float(self.covered[k]) <= self._limit:
            first = int(waiting.int().argmax())
            self.covered[k] += worth[first]
            self._asked[k] = torch.cat((self._asked[k], points[first : first + 1]))
            waiting &= self._unlike(points, points[first : first + 1])
        return waiting

    def _unlike(self, points: Tensor, asked: Tensor) -> Tensor:
        """Tell which of (n, 2) points lie further than the spacing from all (m, 2) others."""
        if not len(asked):
            return torch.ones(len(points), dtype=torch.bool, device=points.device)
        return (torch.cdist(points, asked) > self._spacing).all(1)
