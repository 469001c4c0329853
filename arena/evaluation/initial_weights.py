"""Tells whether a clone has been trained yet: its accuracy before says nothing about the attack."""

import hashlib
from collections.abc import Callable

import torch
from torch import nn


class InitialWeights:
    """Compares clones with the first network of the stream that an attacker's clones come from.

    An attacker whose clone is another network from the start counts as training.

    Args:
        build: makes that network.
    """

    def __init__(self, build: Callable[[], nn.Module]) -> None:
        self._build = build
        self._initial: bytes | None = None
        self._trained = False

    def holds(self, clone: nn.Module) -> bool:
        """Whether all parameters are as they were built; False for good after the first change."""
        if not self._trained:
            if self._initial is None:
                self._initial = _digest(self._build())
            self._trained = _digest(clone) != self._initial
        return not self._trained


def _digest(network: nn.Module) -> bytes:
    content = hashlib.sha256()
    for parameter in network.parameters():
        values = parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        content.update(values.numpy().tobytes())
    return content.digest()
