"""Gradients of a function that can only be evaluated: forward differences.

A loss that looks through a black box has no derivative to follow. Evaluated at a point and a
little beside it, it still shows its slope in that direction, and the mean over directions drawn
from the unit sphere is the gradient divided by the dimension.

Differences are taken over steps of 1e-3 and less, where losses differ in the fifth decimal, so
that they need true float32. TF32 and autocast are refused here.

Source:
    Truong et al. 2021 (DFME), arXiv:2011.14779, section 4.2, with the factor d of its released
    code; the estimator is that of Duchi et al. 2015, arXiv:1312.2139.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from envs.errors import PlayerError

JUMP = 100.0
"""A difference above this multiple of the median one has crossed an edge of the function."""


class Estimate(NamedTuple):
    """What forward differences tell about a loss.

    Attributes:
        gradient: (n, c, h, w) float32, the estimated gradient of each image's own loss.
        losses: (n,) the losses at the points themselves.
        jump_share: 0-d, share of differences above `JUMP` times the median.
    """

    gradient: Tensor
    losses: Tensor
    jump_share: Tensor


def unit_directions(count: int, points: Tensor, *, generator: torch.Generator) -> Tensor:
    """Draw directions uniformly from the unit sphere, on the generator's device.

    Args:
        count: directions per point, m.
        points: (n, c, h, w); the sphere lies in their c * h * w dimensions.
        generator: the only source of chance.

    Returns:
        (m, n, c, h, w) of the points' dtype and device, each point's of length 1.
    """
    shape = (count, *points.shape)
    drawn = torch.randn(shape, generator=generator, device=generator.device, dtype=points.dtype)
    lengths = drawn.flatten(2).norm(dim=2)  # (m, n)
    return drawn.div_(lengths[..., None, None, None]).to(points.device)


def forward_difference(
    evaluate: Callable[[Tensor], Tensor],
    points: Tensor,
    *,
    directions: int,
    epsilon: float,
    generator: torch.Generator,
    drop_jumps: float | None = None,
) -> Estimate:
    """Estimate the gradient of each point's loss from n * (directions + 1) evaluations.

    g = (d / m) * sum_i [l(x + epsilon u_i) - l(x)] / epsilon * u_i, with u_i on the unit sphere.
    For a linear loss its expectation is the gradient, and the relative error of the mean over n
    draws is about sqrt((d - 1) / n).

    Args:
        evaluate: gives (k,) losses of (k, c, h, w) points, in one call; float64 keeps digits.
        points: (n, c, h, w).
        directions: differences per point, m.
        epsilon: length of a difference.
        generator: draws the directions.
        drop_jumps: leave out differences above this multiple of the median one, as an attacker
            does who knows that the function has edges; None keeps all.

    Raises:
        PlayerError: autocast or TF32 is on, or the losses are below float32.
    """
    require_full_precision(points.device)
    with torch.no_grad():
        steps = unit_directions(directions, points, generator=generator)
        beside = points + epsilon * steps  # (m, n, c, h, w)
        losses = evaluate(torch.cat((points[None], beside)).flatten(0, 1))
        if losses.dtype not in (torch.float32, torch.float64):
            raise PlayerError(f"finite differences need float32 losses, got {losses.dtype}")
        losses = losses.view(directions + 1, len(points))
        differences = losses[1:] - losses[0]
        sizes = differences.abs()
        median = sizes.median()
        jump_share = (sizes > JUMP * median).float().mean()
        if drop_jumps is not None:
            differences = differences.masked_fill(sizes > drop_jumps * median, 0.0)
        factor = points[0].numel() / (directions * epsilon)
        slopes = (factor * differences).to(points.dtype)
        gradient = (slopes[..., None, None, None] * steps).sum(0)
    return Estimate(gradient, losses[0], jump_share)


def require_full_precision(device: torch.device) -> None:
    """Check that matrix products and convolutions on `device` run in true float32.

    Raises:
        PlayerError: autocast is on, or TF32 or a lower precision is allowed.
    """
    fault = _lowered_precision(device)
    if fault is not None:
        raise PlayerError(
            f"finite differences need true float32, but {fault}; "
            f"switch it off, or wrap them in agents.learning.zeroth_order.full_precision()"
        )


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep convolutions in true float32 within the block, victim's ones in process included.

    cuDNN allows itself TF32 by default, so that somebody has to say no. What was asked for
    explicitly (autocast, a lower precision of matrix products) is not touched, but refused by
    `require_full_precision`.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def _lowered_precision(device: torch.device) -> str | None:
    """Say what lowers the precision on a device, or None."""
    if torch.is_autocast_enabled(device.type):
        return "autocast is on"
    if torch.get_float32_matmul_precision() != "highest":
        return f"float32 matrix products are set to '{torch.get_float32_matmul_precision()}'"
    if device.type == "cuda" and torch.backends.cudnn.allow_tf32:
        return "cuDNN may use TF32"
    return None
