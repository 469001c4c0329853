"""Delays answers so that response time does not reveal the exit.

These act on the service time, before any network adds its own; each gives back part of what early
exit saves the user, though not the compute it saves the server.
"""

import math
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from envs.seeding import image_uniforms

_GRID, _LEVELS = 8, 16


class Padding(Protocol):
    """Delays answers so that their time tells less."""

    def apply(self, latency: Tensor, exits: Tensor, images: Tensor) -> Tensor:
        """Return when the answers are really sent, never earlier.

        Args:
            latency: (n,) float64 seconds.
            exits: (n,) int64, where they left.
            images: (n, c, h, w) as they were asked.
        """
        ...


class ConstantTime:
    """Sends every answer when the whole network would have finished.

    Args:
        seconds: the deadline. It needs headroom for noise, or the late exits stand out: take
            `LatencyModel.expected(profile, deviations=4)[-1]`.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = _at_least_zero("deadline", seconds)

    def apply(self, latency: Tensor, exits: Tensor, images: Tensor) -> Tensor:
        """Wait for the deadline; an answer that misses it is sent at once."""
        return latency.clamp_min(self.seconds)


class PadToLevels:
    """Sends every answer at the next of a few times.

    Args:
        levels: seconds, in any order. Those of all exits pad to the next exit; two of them make
            the "bucketed" policy.
    """

    def __init__(self, levels: Sequence[float]) -> None:
        if not levels:
            raise ValueError("expected at least one level to pad to")
        self.levels = tuple(sorted(_at_least_zero("level", level) for level in levels))

    def apply(self, latency: Tensor, exits: Tensor, images: Tensor) -> Tensor:
        """Wait for the next level; an answer beyond the last is sent at once."""
        levels = (*self.levels, math.inf)
        steps = torch.tensor(levels, dtype=latency.dtype, device=latency.device)
        padded = steps[torch.searchsorted(steps, latency.contiguous())]
        return torch.where(padded.isinf(), latency, padded)


class InputSeededDelay:
    """Delays early answers by an amount that depends on the image, so that repeats do not average.

    The delay is |N(0, scale)|, capped at the whole network's time.

    Args:
        scale: seconds.
        full: seconds of the whole network; never delayed beyond.
        last_exit: index of the last exit, N - 1, whose answers are not delayed.
        key: the server's secret.
        perceptual: seed by an 8x8 thumbnail in 16 greys, so that invisible changes of an image
            draw no new delay either; otherwise by its exact 8-bit pixels.

    Source:
        TimeGuard, in Li et al. 2022, arXiv:2208.11180.
    """

    def __init__(
        self, scale: float, full: float, *, last_exit: int, key: int, perceptual: bool = True
    ) -> None:
        self.scale, self.full = _at_least_zero("scale", scale), _at_least_zero("full time", full)
        self.last_exit, self.key, self.perceptual = last_exit, key, perceptual

    def apply(self, latency: Tensor, exits: Tensor, images: Tensor) -> Tensor:
        """Delay whoever left early."""
        seen = thumbnails(images) if self.perceptual else images
        chance = image_uniforms(seen, self.key)[:, 0].to(latency.device)
        normal = math.sqrt(2) * torch.special.erfinv(chance)  # |N(0, 1)| by inversion
        delayed = (latency + self.scale * normal).clamp_max(self.full).maximum(latency)
        return torch.where(exits < self.last_exit, delayed, latency)


def thumbnails(images: Tensor) -> Tensor:
    """Reduce images to at most 8x8 blocks in 16 greys.

    Args:
        images: (n, c, h, w) float in [0, 1].

    Returns:
        (n, 1, g, g) float64 in [0, 1], multiples of 1/15.
    """
    side = min(_GRID, *images.shape[2:])
    pixels = (images.double() * 255).round().mean(1, keepdim=True)
    blocks = F.adaptive_avg_pool2d(pixels, side)
    return (blocks * _LEVELS / 256).floor() / (_LEVELS - 1)


def _at_least_zero(what: str, seconds: float) -> float:
    if not 0 <= seconds < math.inf:
        raise ValueError(f"expected a {what} in seconds, at least 0, got {seconds}")
    return float(seconds)
