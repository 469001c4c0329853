"""Unlabelled synthetic pools: pen strokes that look like writing, and uniform noise."""

import torch
from torch import Tensor

from envs.data.resize import fit_to

_WAYPOINTS = 4
_CHUNK = 256


def strokes_pool(
    count: int, image_shape: tuple[int, int, int], generator: torch.Generator
) -> Tensor:
    """Draw pen strokes that look like digits and are none: white ink on black paper.

    A picture has one smooth stroke through four random waypoints, closed to a loop in one of
    four, and in one of three a second stroke. The drawing fills the height of the picture as
    scanned digits do. No real image is involved.

    Args:
        count: pictures to draw.
        image_shape: (channels, height, width); 1 or 3 channels.
        generator: where all chance comes from; the pictures are drawn on its device.

    Returns:
        (count, *image_shape) uint8.
    """
    channels, height, width = image_shape
    out = torch.empty((count, *image_shape), dtype=torch.uint8, device=generator.device)
    for start in range(0, count, _CHUNK):
        part = slice(start, min(start + _CHUNK, count))
        paths, present = _paths(part.stop - part.start, max(height, width), generator=generator)
        ink = _rendered(paths, present, (height, width), generator=generator)
        out[part] = fit_to(ink, (channels, height, width))
    return out


def noise_pool(count: int, image_shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Draw uniform noise, (count, *image_shape) uint8, every value equally likely."""
    return torch.randint(
        256, (count, *image_shape), generator=generator, device=generator.device, dtype=torch.uint8
    )


def _paths(number: int, samples: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw two strokes a picture as points in the unit square, and which strokes there are.

    Args:
        number: pictures to draw.
        samples: points between two waypoints; at the picture's side they lie within a pixel of
            one another, so that a thin pen leaves no dots.
        generator: where all chance comes from.

    Returns:
        Points (number, 2, points, 2) as (down, across), and (number, 2) bool.
    """
    device = generator.device
    waypoints = torch.rand((number, 2, _WAYPOINTS, 2), generator=generator, device=device)
    chances = torch.rand((number, 2), generator=generator, device=device)
    closed = (chances < 0.25).view(number, 2, 1, 1)
    # a closed stroke ends where it began; an open one has its ends repeated for the spline
    last = torch.where(closed, waypoints[:, :, :1], waypoints[:, :, -1:])
    middle = torch.cat([waypoints[:, :, :-1], last], 2)
    before = torch.where(closed, middle[:, :, -2:-1], middle[:, :, :1])
    after = torch.where(closed, middle[:, :, 1:2], middle[:, :, -1:])
    points = _catmull_rom(torch.cat([before, middle, after], 2), samples)
    second = torch.rand((number, 1), generator=generator, device=device) < 1 / 3
    present = torch.cat([torch.ones_like(second), second], 1)
    return _filled(points, present), present


def _catmull_rom(knots: Tensor, samples: int) -> Tensor:
    """Run a uniform Catmull-Rom spline through the inner knots, (..., points, 2)."""
    t = torch.linspace(0, 1, samples, device=knots.device).view(-1, 1)
    a, b, c, d = (knots[:, :, k : knots.shape[2] - 3 + k, None] for k in range(4))
    curve = b + 0.5 * t * (
        (c - a) + t * ((2 * a - 5 * b + 4 * c - d) + t * (3 * (b - c) + d - a))
    )  # (number, 2, segments, samples, 2)
    path: Tensor = curve.flatten(2, 3)
    return path


def _filled(points: Tensor, present: Tensor) -> Tensor:
    """Stretch each drawing over the unit square: all of its height, 0.8 of its width."""
    absent = ~present[:, :, None, None]
    low = points.masked_fill(absent, torch.inf).amin((1, 2), keepdim=True)
    high = points.masked_fill(absent, -torch.inf).amax((1, 2), keepdim=True)
    unit = (points - low) / (high - low).clamp_min(1e-3)
    return unit * unit.new_tensor([1.0, 0.8]) + unit.new_tensor([0.0, 0.1])


def _rendered(
    paths: Tensor, present: Tensor, size: tuple[int, int], *, generator: torch.Generator
) -> Tensor:
    """Ink every pixel by its distance to the nearest point of the strokes, (n, 1, h, w) uint8.

    The pen is 0.9 to 1.6 pixels wide on a side of 8 and grows with the square root of the side;
    its edge is a ramp one pixel wide, which is the blur of a scan.
    """
    number, device = len(paths), paths.device
    pen = 0.45 + 0.35 * torch.rand((number, 1), generator=generator, device=device)
    radius = pen * (min(size) / 8) ** 0.5
    # half a pen's width stays free at each edge of the picture
    scale = torch.tensor([float(side) for side in size], device=device) - 2 * radius  # (n, 2)
    points = paths.flatten(1, 2) * scale[:, None] + radius[:, None]  # (n, points, 2)
    absent = (~present).repeat_interleave(paths.shape[2], 1)
    points = points.masked_fill(absent[:, :, None], 1e6)
    rows, columns = (torch.arange(side, device=device) + 0.5 for side in size)
    pixels = torch.cartesian_prod(rows, columns).expand(number, -1, -1)  # (n, h*w, 2)
    nearest: Tensor = torch.cdist(pixels, points, compute_mode="donot_use_mm_for_euclid_dist").amin(
        2
    )
    ink = (radius - nearest + 0.5).clamp(0, 1)
    pictures: Tensor = (ink * 255).round().to(torch.uint8).view(number, 1, *size)
    return pictures
