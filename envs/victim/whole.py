"""Ways to run a whole network on an accelerator: eagerly, compiled, or as a recorded graph.

Early exit that stops computing needs to know who left, which waits for the device at every exit.
Running everything and selecting afterwards never waits; its many small kernels can be compiled, or
recorded once per size of request and replayed.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from envs.nets.multi_exit import MultiExit
from envs.victim.folded import lay_out

Acceleration = Literal["none", "compiled", "graphs"]
Outputs = Callable[[Tensor], Tensor]
"""Maps (n, c, h, w) images to the (N, n, K) logits of all exits."""


def outputs_of(network: MultiExit, images: Tensor) -> Tensor:
    """Return the (N, n, K) logits of every exit."""
    features, outputs = lay_out(images, network), []
    for index in range(network.num_exits):
        features = network.run_segment(index, features)
        outputs.append(network.logits(index, features))
    return torch.stack(outputs)


class Padded:
    """Runs requests at a few fixed sizes, so that something may be prepared for each.

    Args:
        network: in evaluation mode.
        prepare: returns what runs requests of one size: (size, c, h, w) to (N, size, K). What it
            returns is copied before the next request.
    """

    def __init__(self, network: MultiExit, prepare: Callable[[MultiExit, Tensor], Outputs]) -> None:
        self._network, self._prepare = network, prepare
        self._ready: dict[int, Outputs] = {}

    def __call__(self, images: Tensor) -> Tensor:
        """Fill the request up to the next size with copies of its first image, run it, cut."""
        count = images.shape[0]
        size = padded_size(count)
        if size > count:
            images = torch.cat((images, images[:1].expand(size - count, -1, -1, -1)))
        if size not in self._ready:
            self._ready[size] = self._prepare(self._network, images)
        return self._ready[size](images)[:, :count].clone()


def padded_size(count: int) -> int:
    """Return the next size that is prepared for: a power of 2, or halfway between two.

    At most a third of the work is on filling.

    Example:
        >>> [padded_size(count) for count in (1, 3, 5, 65, 97, 256)]
        [1, 3, 6, 96, 128, 256]
    """
    power = 1 << (count - 1).bit_length()
    middle = power * 3 // 4
    return middle if power >= 4 and count <= middle else power


def accelerated(network: MultiExit, way: Acceleration) -> Outputs | None:
    """Return what runs the whole network in a way; None for plain eager execution.

    Raises:
        ValueError: no such way, or graphs without CUDA.
    """
    if way == "none":
        return None
    if way == "compiled":
        return Padded(network, _compile)
    if way != "graphs":
        raise ValueError(f"expected 'none', 'compiled' or 'graphs', got {way!r}")
    if next(network.parameters()).device.type != "cuda":
        raise ValueError("graphs are recorded on CUDA alone; use 'none' or 'compiled' here")
    return Padded(network, _record)


def _compile(network: MultiExit, images: Tensor) -> Outputs:
    """Compile for one size; a shape that varies would be compiled again and again."""
    compiled: Outputs = torch.compile(lambda batch: outputs_of(network, batch), dynamic=False)
    return compiled


def _record(network: MultiExit, images: Tensor) -> Outputs:
    """Record a CUDA graph for one size; replaying it is one launch."""
    static = images.clone()
    side = torch.cuda.Stream(images.device)
    side.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(side):  # warm up aside, as recording asks for
        for _ in range(3):
            outputs_of(network, static)
    torch.cuda.current_stream(images.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = outputs_of(network, static)

    def replay(batch: Tensor) -> Tensor:
        static.copy_(batch)
        graph.replay()
        return outputs

    return replay
