"""Augmentations of whole batches on their device; every image gets its own draw."""

from collections.abc import Callable

import torch
from torch import Tensor

from envs.errors import UnknownName

Augmentation = Callable[[Tensor, torch.Generator], Tensor]


def crop_flip(images: Tensor, generator: torch.Generator, pad: int = 4) -> Tensor:
    """Shift every image by up to `pad` pixels and mirror half of them: the CIFAR standard.

    The same as padding with zeros, cropping at a random place and flipping left to right with
    probability one half.

    Args:
        images: (n, c, h, w) of any dtype.
        generator: on the images' device.
        pad: largest shift, in pixels.

    Returns:
        A new (n, c, h, w) tensor of the same dtype; channels-last in memory.
    """
    return _moved(images, *_offsets(images, generator, pad), _coins(images, generator))


def shift(images: Tensor, generator: torch.Generator, pad: int = 1) -> Tensor:
    """Shift every image by up to `pad` pixels, zeros flow in; for digits, which mirroring spoils.

    Args:
        images: (n, c, h, w) of any dtype.
        generator: on the images' device.
        pad: largest shift, in pixels.

    Returns:
        A new (n, c, h, w) tensor of the same dtype; channels-last in memory.
    """
    return _moved(images, *_offsets(images, generator, pad), None)


def augmentation(name: str) -> Augmentation:
    """Return the augmentation of this name.

    Raises:
        UnknownName: there is none of this name.
    """
    if name not in AUGMENTATIONS:
        raise UnknownName("augmentation", name, AUGMENTATIONS)
    return AUGMENTATIONS[name]


def _untouched(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return the batch as it is."""
    return images


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": _untouched,
    "crop-flip": crop_flip,
    "shift": shift,
}


def _offsets(images: Tensor, generator: torch.Generator, pad: int) -> tuple[Tensor, Tensor]:
    """Draw a shift down and to the right for each image, (n, 1) int64 in -pad..pad."""
    drawn = torch.randint(
        -pad, pad + 1, (2, len(images), 1), generator=generator, device=images.device
    )
    return drawn[0], drawn[1]


def _coins(images: Tensor, generator: torch.Generator) -> Tensor:
    """Draw whether each image is mirrored, (n, 1) bool."""
    drawn = torch.randint(2, (len(images), 1), generator=generator, device=images.device)
    return drawn.bool()


def _moved(images: Tensor, down: Tensor, right: Tensor, mirrored: Tensor | None) -> Tensor:
    """Shift each image by its own offset, zeros flow in, then mirror those marked.

    One gather for the whole batch: `rows` and `columns` say where each output pixel comes from.
    """
    height, width = images.shape[2:]
    rows = torch.arange(height, device=images.device) - down  # (n, h)
    columns = torch.arange(width, device=images.device).expand(len(images), width)
    if mirrored is not None:
        columns = torch.where(mirrored, width - 1 - columns, columns)
    columns = columns - right  # (n, w)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    source = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None]
    first = torch.arange(len(images), device=images.device) * (height * width)
    flat = images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])  # (n*h*w, c)
    picked = flat[source + first[:, None, None]] * inside[..., None].to(images.dtype)
    return picked.permute(0, 3, 1, 2)  # (n, c, h, w)
