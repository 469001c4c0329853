"""How many images a network runs together, segment by segment, so that its maps stay in cache."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from envs.nets.exit_cost import blank_image, on_outline, structure_of
from envs.nets.multi_exit import MultiExit

BUDGET = 8 * 2**20
"""Bytes that the largest map of a chunk may take."""

SMALLEST, LARGEST = 8, 4096

_KNOWN: dict[object, tuple[int, ...]] = {}
"""By structure of the network: laying one out takes as long as many requests."""


class _Largest(TorchDispatchMode):
    """Remembers the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,  # an OpOverload; torch does not export its type
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.bytes = max(self.bytes, made.nbytes)
        return made


def chunks_for(network: MultiExit) -> tuple[int, ...]:
    """Return the images that should run together in each segment of a network on a CPU.

    It depends on the network alone, so that answers repeat to the last bit on one machine.
    """
    key = structure_of(network)
    if key not in _KNOWN:
        _KNOWN[key] = on_outline(network, _chunks)
    return _KNOWN[key]


def _chunks(bare: MultiExit) -> tuple[int, ...]:
    features, chunks = blank_image(bare.backbone), []
    with torch.no_grad():
        for segment in range(bare.num_exits):
            with _Largest() as largest:
                features = bare.run_segment(segment, features)
            chunk = BUDGET // max(largest.bytes, 1)
            chunks.append(max(SMALLEST, min(LARGEST, chunk)))
    return tuple(chunks)
