"""Ties at a threshold, decided along one path whatever the batch.

A network's logits depend in their last digits on how many images it ran together, in which layout
and at which precision. An image whose confidence lies within rounding of a threshold would leave
now at this exit, now at that. It is decided again, by the original network on the image alone, in
true float32: so exits depend neither on the split into requests nor on the way of serving.

Measured: logits of up to 19 differ by 3e-5 between batch sizes, 2e-5 after folding.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from envs.exits.rules import ExitRule
from envs.nets.multi_exit import MultiExit

FLOAT32 = 1e-4
"""Nats of log-odds that rounding may move a confidence by in float32."""

TENSOR_FLOAT32 = 2e-2
"""The same where an accelerator multiplies with ten bits of mantissa."""

_TOGETHER = {"cpu": 1}
_PADDED = 32


class Arbiter:
    """Decides who is too close to call.

    Args:
        network: the original, in evaluation mode while it decides.
    """

    def __init__(self, network: MultiExit) -> None:
        self._network = network

    def tolerance(self, device: torch.device) -> float:
        """Return how far rounding may move a confidence on a device, in nats."""
        if device.type != "cuda":
            return FLOAT32
        lowered = torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32
        return TENSOR_FLOAT32 if lowered else FLOAT32

    def leaves(self, exit_index: int, images: Tensor, *, rule: ExitRule, state: Tensor) -> Tensor:
        """Tell who leaves at an exit, as (n,) bool, from the (n, c, h, w) images themselves."""
        verdicts = []
        for part, count in _canonical(images):
            for index in range(exit_index + 1):
                part = self._network.run_segment(index, part)
            verdicts.append(self._network.logits(exit_index, part)[:count])
        return rule.leaves(exit_index, torch.cat(verdicts), state)

    def choose(self, images: Tensor, *, rule: ExitRule, state: Tensor) -> Tensor:
        """Choose among all exits, as (n,) int64."""
        parts = [self._network.forward_all(part)[:, :count] for part, count in _canonical(images)]
        return rule.choose(torch.cat(parts, 1), state)


def _canonical(images: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Yield images in batches of one fixed size, and how many of each count.

    An accelerator would idle on single images: there the last batch is filled up with its first
    image.
    """
    size = _TOGETHER.get(images.device.type, _PADDED)
    with _true_float32(images.device):
        for part in torch.split(images.contiguous(), size):
            filling = part[:1].expand(size - len(part), -1, -1, -1)
            yield torch.cat((part, filling)), len(part)


@contextmanager
def _true_float32(device: torch.device) -> Iterator[None]:
    """Keep an accelerator from rounding what it multiplies."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
