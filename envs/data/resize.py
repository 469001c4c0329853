"""Bring images of one shape to another: padding, channels, antialiased resizing."""

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.errors import ArenaError

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_CHUNK = 1024


def fit_to(pixels: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Convert channels and size of uint8 images.

    Colour turns grey by its luma (ITU-R BT.601), grey turns colour by repeating it; the size
    changes by antialiased bilinear interpolation, without keeping the aspect.

    Args:
        pixels: (n, c, h, w) uint8.
        image_shape: the wanted (channels, height, width).

    Returns:
        (n, *image_shape) uint8; the input itself where nothing changes.

    Raises:
        ArenaError: channels other than 1 and 3 would have to change.
    """
    if tuple(pixels.shape[1:]) == image_shape:
        return pixels
    _check_channels(pixels.shape[1], image_shape[0])
    out = pixels.new_empty((len(pixels), *image_shape))
    for start in range(0, len(pixels), _CHUNK):
        part = pixels[start : start + _CHUNK].to(torch.float32)
        part = _resize(_recolour(part, image_shape[0]), image_shape[1:])
        out[start : start + _CHUNK] = part.round().clamp(0, 255).to(torch.uint8)
    return out


def pad_to(pixels: Tensor, size: int) -> Tensor:
    """Pad square images with black to `size` pixels a side, the image in the middle.

    Padding keeps every original pixel, which resizing does not; where the margin is odd, the
    right and lower side get the extra pixel.

    Raises:
        ArenaError: the images are larger than `size`.
    """
    height, width = pixels.shape[2:]
    if size < max(height, width):
        raise ArenaError(f"expected a size of at least {max(height, width)} pixels, got {size}")
    down, across = size - height, size - width
    return F.pad(pixels, (across // 2, across - across // 2, down // 2, down - down // 2))


def _check_channels(given: int, wanted: int) -> None:
    if given != wanted and {given, wanted} != {1, 3}:
        raise ArenaError(f"cannot turn images of {given} channels into {wanted}; expected 1 or 3")


def _recolour(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    if channels == 3:
        return images.expand(-1, 3, -1, -1)
    luma = torch.tensor(_LUMA, device=images.device).view(1, 3, 1, 1)
    return (images * luma).sum(1, keepdim=True)


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)
