"""Accounts as mean embeddings of their queries, and how far they lie from each other.

Source:
    Maximum mean discrepancy: Gretton et al. 2012, A kernel two-sample test, JMLR 13. Random
    features: Rahimi and Recht 2007, NeurIPS.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Matrix = NDArray[np.float64]


class Embedding:
    """Random Fourier features of a Gaussian kernel as wide as the owner's images lie apart.

    Args:
        features: (n, ...) float, of the owner's images.
        frequencies: D.
        generator: draws the frequencies.
    """

    def __init__(self, features: Tensor, frequencies: int, generator: torch.Generator) -> None:
        points = features.flatten(1).double()
        self._mean, self._deviation = points.mean(0), points.std(0, correction=0).clamp_min(1e-6)
        some = self._standardised(points[:500])
        width = float(torch.pdist(some).median()) if len(some) > 1 else 1.0
        drawn = torch.randn(points.shape[1], frequencies, generator=generator,
                            device=generator.device, dtype=torch.float64)  # fmt: skip
        self._weights = drawn.to(points.device) / max(width, 1e-6)
        shift = torch.rand(frequencies, generator=generator, device=generator.device,
                           dtype=torch.float64)  # fmt: skip
        self._shift = 2 * math.pi * shift.to(points.device)

    def __call__(self, features: Tensor) -> Tensor:
        """Return (n, D) float64 embeddings of (n, ...) features."""
        points = self._standardised(features.flatten(1).double())
        scale = math.sqrt(2 / len(self._shift))
        return scale * (points @ self._weights + self._shift).cos()

    def _standardised(self, points: Tensor) -> Tensor:
        return (points - self._mean) / self._deviation


@dataclass(slots=True, eq=False)
class History:
    """Sums over the embeddings of an account's queries.

    Attributes:
        total: (D,) float64.
        squares: sum of squared lengths; on the device, which is not waited for.
        count: queries.
    """

    total: Tensor | None = None
    squares: float | Tensor = 0.0
    count: int = 0

    @classmethod
    def of(cls, embedded: Tensor) -> "History":
        """Return the history of (n, D) embeddings."""
        history = cls()
        history.add(embedded)
        return history

    @classmethod
    def joined(cls, parts: Sequence["History"]) -> "History":
        """Return the history of several accounts as one; at least one, none of them empty."""
        total = torch.stack([part.total for part in parts if part.total is not None]).sum(0)
        squares, count = sum(part.squares for part in parts), sum(part.count for part in parts)
        return cls(total, squares, count)

    @property
    def mean(self) -> Tensor:
        """The (D,) mean embedding of at least one query."""
        assert self.total is not None
        return self.total / self.count

    def add(self, embedded: Tensor) -> None:
        """Take (n, D) embeddings."""
        total = embedded.sum(0)
        self.total = total if self.total is None else self.total + total
        self.squares = self.squares + embedded.square().sum()
        self.count += len(embedded)


class Space:
    """Distances between accounts, and from the owner's images, that do not grow with their queries.

    Args:
        owner: the owner's images as one history.
    """

    def __init__(self, owner: History) -> None:
        self._owner = owner

    def from_owner(self, accounts: Sequence[History]) -> Matrix:
        """Return (n,) distances from the owner's images, as `between` gives them."""
        return self.between([self._owner, *accounts])[0, 1:]

    def between(self, accounts: Sequence[History]) -> Matrix:
        """Return (n, n) squared MMD between accounts, unbiased, times half their harmonic mean."""
        if not accounts:
            return np.zeros((0, 0))
        means, own, counts = self._parts(accounts)
        weight = counts[:, None] * counts[None] / (counts[:, None] + counts[None])
        found: Matrix = weight * (own[:, None] + own[None] - 2 * means @ means.T)
        return found

    def _parts(self, accounts: Sequence[History]) -> tuple[Matrix, Matrix, Matrix]:
        means = torch.stack([one.mean for one in accounts]).cpu().numpy()
        counts = np.array([one.count for one in accounts], dtype=np.float64)
        squares = torch.stack([torch.as_tensor(one.squares) for one in accounts]).cpu().numpy()
        lengths = (means * counts[:, None]) ** 2
        own = (lengths.sum(1) - squares) / np.maximum(1, counts * (counts - 1))
        return means, own, counts


def components(linked: NDArray[np.bool_]) -> list[list[int]]:
    """Return the connected components of an (n, n) symmetric relation, members in order."""
    left, found = set(range(len(linked))), []
    while left:
        open_, members = [min(left)], []
        left.remove(open_[0])
        while open_:
            at = open_.pop()
            members.append(at)
            reached = [one for one in sorted(left) if linked[at, one]]
            left.difference_update(reached)
            open_ += reached
        found.append(sorted(members))
    return found


def quantile(values: Matrix, share: float) -> float:
    """Return the value that this share of values does not pass; 0 of none."""
    return float(np.quantile(values, share)) if values.size else 0.0
