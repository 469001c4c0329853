"""Running digests of what was asked and answered, by which two plays are told apart.

Each round is folded into one number for the queries and one for the answers; the sum of words times
odd weights depends on every bit and on the order.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PRIME = 0x9E3779B97F4A7C1
"""Odd multiplier of the running digest."""

_WORD = 2**64 - 1

_SHAPES = 8
"""Shapes of small queries and answers that have a place of their own."""

_LARGE = 2**16
"""Values from which products in float64 are faster than one in int64."""

_ROW = 2**11
"""Words of a row: 2**31 times the odd weights of a row add up to 2**53, which float64 holds."""

_ROWS = 16
"""Rows that are multiplied at once; few enough for the cache."""

_ONES, _ODD = np.ones(_ROW), np.arange(_ROW, dtype=np.float64) * 2 + 1


class HostDigests:
    """The two digests of a game on the CPU."""

    def __init__(self) -> None:
        self._queries = self._answers = 0
        self._places: dict[torch.Size, tuple[Tensor, NDArray[np.int32], NDArray[np.int64]]] = {}

    def add(self, queries: Tensor, answers: Tensor) -> None:
        """Fold a round in; float32 tensors."""
        self._queries = (self._queries * _PRIME + self._fold(queries)) & _WORD
        self._answers = (self._answers * _PRIME + self._fold(answers)) & _WORD

    def _fold(self, values: Tensor) -> int:
        """Fold a few values where numpy sees them already: a view of each tensor costs more."""
        place = self._places.get(values.shape)
        if place is None:
            if values.numel() >= _LARGE or len(self._places) == _SHAPES:
                return fold_here(values)
            with torch.inference_mode(False):
                copy = torch.empty(values.shape)
            words = _words(copy)
            place = self._places[values.shape] = (copy, words, _weights_here(len(words)))
        copy, words, weights = place
        copy.copy_(values)
        return int(words.dot(weights))

    def read(self) -> tuple[str, str]:
        """Return both, of the queries first."""
        return f"{self._queries:016x}", f"{self._answers:016x}"

    def restore(self, digests: Sequence[str]) -> None:
        """Go on from what `read` returned."""
        self._queries, self._answers = (int(digest, 16) for digest in digests)


class DeviceDigests:
    """The two digests of a game on an accelerator, which is waited for only when they are read.

    Args:
        device: where the tensors are.
    """

    def __init__(self, device: torch.device) -> None:
        self._digests = torch.zeros(2, dtype=torch.int64, device=device)

    def add(self, queries: Tensor, answers: Tensor) -> None:
        """Fold a round in; float32 tensors."""
        self._digests.mul_(_PRIME).add_(torch.stack((fold(queries), fold(answers))))

    def read(self) -> tuple[str, str]:
        """Return both, of the queries first; waits for the device."""
        queries, answers = (f"{value & _WORD:016x}" for value in self._digests.tolist())
        return queries, answers

    def restore(self, digests: Sequence[str]) -> None:
        """Go on from what `read` returned."""
        words = np.array([int(digest, 16) for digest in digests], dtype=np.uint64)
        self._digests.copy_(torch.from_numpy(words.view(np.int64)))


def digests_on(device: torch.device) -> HostDigests | DeviceDigests:
    """Return fresh digests for tensors of a device."""
    return HostDigests() if device.type == "cpu" else DeviceDigests(device)


def fold(values: Tensor) -> Tensor:
    """Fold float32 values into one int64 that depends on every bit and on the order; no sync."""
    words = values.contiguous().view(torch.int32).view(-1).to(torch.int64)
    return (words * _weights(words.shape[0], words.device)).sum()


def fold_here(values: Tensor) -> int:
    """Fold values on the CPU, into what `fold` gives but for multiples of 2**64.

    numpy costs a third of torch for small ones.
    """
    words = _words(values)
    if len(words) >= _LARGE:
        return _fold_rows(words)
    return int(words.dot(_weights_here(len(words))))  # in int64, as the weights are


def _fold_rows(words: NDArray[np.int32]) -> int:
    """Fold words row by row; what float64 adds up in a row is exact, in whatever order."""
    count = len(words) // _ROW
    rows, rest = words[: count * _ROW].reshape(count, _ROW), words[count * _ROW :]
    sums, weighted, held = np.empty(count), np.empty(count), np.empty((_ROWS, _ROW))
    for first in range(0, count, _ROWS):
        some = slice(first, first + _ROWS)
        floats = held[: len(rows[some])]
        np.copyto(floats, rows[some])
        np.dot(floats, _ONES, out=sums[some])
        np.dot(floats, _ODD, out=weighted[some])
    starts = np.arange(count + 1, dtype=np.int64) * (2 * _ROW)
    total = int(weighted.astype(np.int64).sum()) + int(sums.astype(np.int64).dot(starts[:-1]))
    odd = np.arange(len(rest), dtype=np.int64) * 2 + 1 + starts[-1]
    return (total + int(rest.dot(odd))) * _PRIME


def _words(values: Tensor) -> NDArray[np.int32]:
    return values.numpy().ravel().view(np.int32)


@lru_cache(maxsize=4)
def _weights_here(count: int) -> NDArray[np.int64]:
    return _weights(count, torch.device("cpu")).numpy()


@lru_cache(maxsize=4)
def _weights(count: int, device: torch.device) -> Tensor:
    """Return (count,) int64 odd weights, one for each place; requests come in few sizes."""
    with torch.inference_mode(False):
        return (torch.arange(count, device=device) * 2 + 1) * _PRIME
