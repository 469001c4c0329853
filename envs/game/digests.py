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

_LARGE = 2**16
"""Values from which einsum is faster than a dot product, which first makes int64 of all words."""


class HostDigests:
    """The two digests of a game on the CPU."""

    def __init__(self) -> None:
        self._queries = self._answers = 0

    def add(self, queries: Tensor, answers: Tensor) -> None:
        """Fold a round in; float32 tensors."""
        self._queries = (self._queries * _PRIME + fold_here(queries)) & _WORD
        self._answers = (self._answers * _PRIME + fold_here(answers)) & _WORD

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
    """Fold values on the CPU, into what `fold` gives; numpy costs a third for small ones."""
    words = values.numpy().ravel().view(np.int32)
    weights = _weights_here(words.shape[0])  # int64, as which all is summed
    return int(words.dot(weights) if len(words) < _LARGE else np.einsum("i,i->", words, weights))


@lru_cache(maxsize=4)
def _weights_here(count: int) -> NDArray[np.int64]:
    return _weights(count, torch.device("cpu")).numpy()


@lru_cache(maxsize=4)
def _weights(count: int, device: torch.device) -> Tensor:
    """Return (count,) int64 odd weights, one for each place; requests come in few sizes."""
    with torch.inference_mode(False):
        return (torch.arange(count, device=device) * 2 + 1) * _PRIME
