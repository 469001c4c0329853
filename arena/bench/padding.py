"""Multiply-accumulates without those that meet padding.

The usual count, which sets the limit of serving, takes a 3x3 convolution of a 4x4 map for 144
multiplications a pair of channels. 44 of them meet the zeros around the map, which a
kernel need not do. So late layers, whose maps are small, may cost less than they count.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch

from envs.nets.exit_cost import profile_by
from envs.nets.multi_exit import MultiExit


def unpadded_shares(network: MultiExit) -> tuple[float, ...]:
    """Return what each exit costs relative to the last one, in (0, 1]; padding is not counted."""
    return profile_by(network, {torch.ops.aten.convolution: _convolution_flop}).shares


def _convolution_flop(
    images: Sequence[int], weights: Sequence[int], _bias: object, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, *_: Any,
    out_shape: Sequence[int], **__: Any,
) -> int:  # fmt: skip
    if transposed:
        raise ValueError("expected a network without transposed convolutions")
    met = prod(
        _met(size, taps, made, *how)
        for size, taps, made, *how in zip(
            images[2:], weights[2:], out_shape[2:], stride, padding, dilation, strict=True
        )
    )
    return 2 * images[0] * weights[0] * weights[1] * met


def _met(size: int, taps: int, made: int, stride: int, padding: int, dilation: int) -> int:
    """Count pairs of place and tap, along one side, that meet the map and not its padding."""
    return sum(
        0 <= place * stride + tap * dilation - padding < size
        for place in range(made)
        for tap in range(taps)
    )
