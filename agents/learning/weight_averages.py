"""Running averages of a network's weights."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Averages:
    """Keeps exponential averages of a network's weights, one for each decay.

    Batch statistics are averaged as weights are, counters are copied. All start at the network as
    it is.

    Args:
        network: what is followed; not touched.
        decays: tau of each; 0 follows the network itself.
    """

    def __init__(self, network: nn.Module, decays: Sequence[float]) -> None:
        if not decays or not all(0 <= decay < 1 for decay in decays):
            raise ValueError(f"expected decays in [0, 1), got {list(decays)}")
        self._network, self.decays = network, tuple(decays)
        self.networks = [copy.deepcopy(network).requires_grad_(False) for _ in decays]
        self._sources = _tensors(network)
        self._copies = [_tensors(network) for network in self.networks]

    @torch.no_grad()
    def update(self, *, at_most: float = 1.0) -> None:
        """Move every average: a = tau a + (1 - tau) w, with no tau above `at_most`."""
        weights, counters = self._sources
        for decay, (averages, copies) in zip(self.decays, self._copies, strict=True):
            torch._foreach_lerp_(averages, weights, 1 - min(decay, at_most))
            for mine, other in zip(copies, counters, strict=True):
                mine.copy_(other)


def _tensors(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return what can be averaged, and what can only be copied."""
    tensors = [tensor.detach() for tensor in (*network.parameters(), *network.buffers())]
    floating = [tensor for tensor in tensors if tensor.is_floating_point()]
    return floating, [tensor for tensor in tensors if not tensor.is_floating_point()]
