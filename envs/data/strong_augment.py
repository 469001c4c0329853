"""A strong augmentation: crops, turns, shifts, mirrors and colours, each image by its own draw.

It stands for images that an attacker asks which are like the owner's and yet others.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_AREA, _RATIO = (0.8, 1.0), (3 / 4, 4 / 3)
_DEGREES, _SHIFT, _SCALE = 15.0, 0.1, (0.9, 1.1)
_JITTER, _GREY = 0.4, 0.2


def strong_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop, turn, shift, scale, mirror and recolour images.

    A crop of 0.8 to 1.0 of the area at a ratio of sides of 3/4 to 4/3, enlarged to the whole; a
    turn of up to 15 degrees, a shift of up to a tenth of a side and a scale of 0.9 to 1.1; half are
    mirrored. Brightness, contrast and saturation change by up to 0.4 of themselves, and one in
    five images of colour becomes grey.

    Args:
        images: (n, c, h, w) float32 in [0, 1].
        generator: on the images' device.

    Returns:
        A new (n, c, h, w) tensor in [0, 1]; what lies outside an image is black.
    """
    grid = F.affine_grid(
        _placements(len(images), generator), list(images.shape), align_corners=False
    )
    moved = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return _recoloured(moved, generator)


def _placements(count: int, generator: torch.Generator) -> Tensor:
    """Draw (n, 2, 3) maps from places of the new image, in [-1, 1], to places of the old one."""
    area = _between(*_AREA, count=count, generator=generator)
    low, high = map(math.log, _RATIO)
    ratio = _between(low, high, count=count, generator=generator).exp()
    # a crop stays within the image, as large as it fits
    width, height = (area * ratio).sqrt().clamp_max(1), (area / ratio).sqrt().clamp_max(1)
    right, down = (
        (1 - side) * _between(-1, 1, count=count, generator=generator) for side in (width, height)
    )
    turn = _between(-_DEGREES, _DEGREES, count=count, generator=generator).deg2rad()
    zoom = 1 / _between(*_SCALE, count=count, generator=generator)
    across, along = (
        _between(-2 * _SHIFT, 2 * _SHIFT, count=count, generator=generator) for _ in range(2)
    )
    mirrored = torch.where(_coin(count, 0.5, generator), -1.0, 1.0)
    cosine, sine = zoom * turn.cos(), zoom * turn.sin()
    rows = (
        torch.stack((width * cosine * mirrored, -width * sine, right + across), 1),
        torch.stack((height * sine * mirrored, height * cosine, down + along), 1),
    )
    return torch.stack(rows, 1)


def _recoloured(images: Tensor, generator: torch.Generator) -> Tensor:
    brightness, contrast, saturation = (
        _between(1 - _JITTER, 1 + _JITTER, count=len(images), generator=generator).view(-1, 1, 1, 1)
        for _ in range(3)
    )
    images = (brightness * images).clamp(0, 1)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = torch.lerp(mean.expand_as(images), images, contrast).clamp(0, 1)
    grey = images.mean(1, keepdim=True).expand_as(images)
    kept = torch.where(_coin(len(images), _GREY, generator).view(-1, 1, 1, 1), 0.0, saturation)
    return torch.lerp(grey, images, kept).clamp(0, 1)


def _between(low: float, high: float, *, count: int, generator: torch.Generator) -> Tensor:
    drawn = torch.rand(count, generator=generator, device=generator.device)
    return low + (high - low) * drawn


def _coin(count: int, share: float, generator: torch.Generator) -> Tensor:
    return torch.rand(count, generator=generator, device=generator.device) < share
