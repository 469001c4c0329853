"""Splits numbers on a line into groups, exactly: the start of every mixture fit.

The best split of sorted numbers has contiguous groups, so that dynamic programming finds it; the
best start of the last group never moves back as numbers are added, which bounds the search. The
start is thereby the same on every run, without any chance.

Source:
    Wang and Song 2011, Ckmeans.1d.dp, The R Journal 3(2); divide and conquer as in
    Grønlund et al. 2017, arXiv:1701.07204.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def split(ordered: Floats, groups: int) -> list[list[int]]:
    """Split ascending numbers into 1, 2, .. groups of least squared distance to their means.

    Args:
        ordered: (n,) ascending, n at least 1.
        groups: the largest number of groups wanted, at least 1.

    Returns:
        For each number of groups 1 .. `groups` the rising starts of its groups, beginning with
        0. Fewer groups are returned where more would not be better, as with equal numbers.
    """
    sums = _Sums(ordered)
    n = len(ordered)
    best = np.concatenate([[0.0], sums.cost(np.zeros(n, dtype=np.int64), np.arange(n))])
    starts: list[Ints] = [np.zeros(n, dtype=np.int64)]
    splits = [[0]]
    for _ in range(1, groups):
        best, start = _layer(best, sums)
        starts.append(start)
        splits.append(_trace(starts, n))
    return splits


def centres(ordered: Floats, starts: Sequence[int]) -> Floats:
    """Return the means of the groups that begin at `starts`."""
    return np.asarray([part.mean() for part in np.split(ordered, list(starts[1:]))])


class _Sums:
    """Squared distance to the mean of any run of the numbers, by prefix sums."""

    def __init__(self, ordered: Floats) -> None:
        centred = ordered - ordered.mean()  # keeps the difference of two sums exact enough
        self._first = np.concatenate([[0.0], np.cumsum(centred)])
        self._second = np.concatenate([[0.0], np.cumsum(centred**2)])

    def cost(self, start: Ints, end: Ints) -> Floats:
        """Return the cost of the runs start .. end, both included."""
        total = self._first[end + 1] - self._first[start]
        squares = self._second[end + 1] - self._second[start]
        return np.asarray(np.maximum(squares - total**2 / (end + 1 - start), 0.0))


def _layer(before: Floats, sums: _Sums) -> tuple[Floats, Ints]:
    """Allow one more group.

    All midpoints of one depth of the divide and conquer are searched at once.

    Args:
        before: (n + 1,) best costs of the first 0 .. n numbers with one group less.
        sums: of the numbers.

    Returns:
        The same with this many groups, and (n,) the start of the last group.
    """
    n = len(before) - 1
    best, start = np.zeros(n + 1), np.zeros(n, dtype=np.int64)
    # rows: first and one past the last number, least and greatest start to try
    spans = np.array([[0, n, 0, n - 1]])
    while len(spans):
        low, high, least, greatest = spans.T
        middle = (low + high) // 2
        widths = np.minimum(greatest, middle) - least + 1
        offsets = np.cumsum(widths) - widths
        owner = np.repeat(np.arange(len(spans)), widths)
        tried = np.arange(widths.sum()) - offsets[owner] + least[owner]
        costs = before[tried] + sums.cost(tried, middle[owner])
        lowest = np.minimum.reduceat(costs, offsets)
        hits = np.flatnonzero(costs == lowest[owner])
        first = hits[np.unique(owner[hits], return_index=True)[1]]
        chosen = tried[first]
        best[middle + 1], start[middle] = lowest, chosen
        left = np.stack([low, middle, least, chosen], 1)[low < middle]
        right = np.stack([middle + 1, high, chosen, greatest], 1)[middle + 1 < high]
        spans = np.concatenate([left, right])
    return best, start


def _trace(starts: list[Ints], n: int) -> list[int]:
    """Follow the starts of the last groups back to the first number."""
    cuts, end = [], n
    for start in reversed(starts):
        cuts.append(int(start[end - 1]))
        end = cuts[-1]
        if end == 0:
            break
    return cuts[::-1]
