"""More images out of a few: crops and mixes of those that are there."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from envs.data.images import ImageSet, bytes_to_unit, to_pixels
from envs.errors import ArenaError

_LEAST_SIDE = 0.6  # of a crop, as a share of the image's
_FURTHEST = 0.8  # share of the first image in a mix; half at least, so that its label holds
_CHUNK = 4096  # images made at once


def enlarged(images: ImageSet, count: int, generator: torch.Generator) -> ImageSet:
    """Add crops and mixes to a set until it has `count` images.

    Half of what is missing are crops of random images, of 0.6 to 1 of their sides, brought back to
    size and mirrored as often as not; half are means of two images of which the first, whose
    label they keep, weighs 0.5 to 0.8.

    Args:
        images: one at least.
        count: images in all; those that are there come first, as they are.
        generator: draws what is cropped and mixed.

    Raises:
        ArenaError: there is nothing to crop.
    """
    if not len(images):
        raise ArenaError(f"expected images to crop and mix, and '{images.name}' has none")
    missing = max(0, count - len(images))
    pixels, labels = [images.pixels], [images.labels]
    for number, make in ((missing - missing // 2, _crops), (missing // 2, _mixes)):
        for start in range(0, number, _CHUNK):
            size = min(_CHUNK, number - start)
            first = _drawn(len(images), size, generator).to(images.device)
            pixels.append(make(images.pixels, first, generator))
            labels.append(images.labels[first])
    return replace(images, pixels=torch.cat(pixels), labels=torch.cat(labels))


def _crops(pixels: Tensor, first: Tensor, generator: torch.Generator) -> Tensor:
    chosen = bytes_to_unit(pixels[first])
    side, across, down, mirrored = _rand(4, len(first), generator).to(chosen.device)
    side = _LEAST_SIDE + (1 - _LEAST_SIDE) * side
    moves = torch.zeros(len(first), 2, 3, device=chosen.device)
    moves[:, 0, 0] = side * torch.where(mirrored < 0.5, -1.0, 1.0)
    moves[:, 1, 1] = side
    moves[:, :, 2] = (1 - side)[:, None] * (2 * torch.stack([across, down], 1) - 1)
    grid = F.affine_grid(moves, list(chosen.shape), align_corners=False)
    return to_pixels(F.grid_sample(chosen, grid, padding_mode="border", align_corners=False))


def _mixes(pixels: Tensor, first: Tensor, generator: torch.Generator) -> Tensor:
    second = _drawn(len(pixels), len(first), generator).to(pixels.device)
    weight = 0.5 + (_FURTHEST - 0.5) * _rand(1, len(first), generator).to(pixels.device)
    mixed = torch.lerp(
        bytes_to_unit(pixels[second]), bytes_to_unit(pixels[first]), weight.view(-1, 1, 1, 1)
    )
    return to_pixels(mixed)


def _drawn(size: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(size, (count,), generator=generator, device=generator.device)


def _rand(rows: int, count: int, generator: torch.Generator) -> Tensor:
    return torch.rand(rows, count, generator=generator, device=generator.device)
