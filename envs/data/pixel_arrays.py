"""Pixels of arrays, whatever numbers they are: bytes, 16 bits, floats in [0, 1], truth values."""

import numpy as np
import torch
from torch import Tensor

from envs.data.images import to_pixels
from envs.errors import ArenaError

_AT_ONCE = 1024  # images of 16 bits that are scaled at once


def pixels_of(images: object, name: str) -> Tensor:
    """Turn an array of images into (n, c, h, w) uint8.

    Raises:
        ArenaError: it is no array of images; the line says what came.
    """
    array = np.asarray(images.detach().cpu() if isinstance(images, Tensor) else images)
    shape, kind = array.shape, array.dtype
    if array.ndim == 3:
        array = array[:, None]
    elif array.ndim == 4 and shape[1] not in (1, 3) and shape[3] in (1, 3):
        array = array.transpose(0, 3, 1, 2)
    if array.ndim != 4 or array.shape[1] not in (1, 3) or 0 in shape:
        raise ArenaError(
            f"'{name}': expected images (n, h, w), (n, h, w, c) or (n, c, h, w) of 1 or 3 "
            f"channels, got {kind} {shape}"
        )
    return _bytes_of(np.ascontiguousarray(array), name)


def _bytes_of(array: np.ndarray, name: str) -> Tensor:
    if array.dtype == np.uint8:
        return torch.from_numpy(array)
    if array.dtype == np.bool_:
        return torch.from_numpy(array.astype(np.uint8) * np.uint8(255))
    low, high = (array.min(), array.max()) if array.dtype.kind in "iuf" else (np.nan, np.nan)
    if (array.dtype.kind, array.dtype.itemsize) == ("u", 2):
        return _scaled(array, int(high), name)
    if array.dtype.kind == "f" and low >= 0 and high <= 1:
        return to_pixels(torch.from_numpy(array.astype(np.float32)))
    if array.dtype.kind in "iu" and low >= 0 and high <= 255:
        return torch.from_numpy(array.astype(np.uint8))
    raise ArenaError(
        f"'{name}': expected bytes, whole numbers of 0 to 255 or floats in [0, 1], got "
        f"{array.dtype} from {low} to {high}"
    )


def _scaled(array: np.ndarray, high: int, name: str) -> Tensor:
    """Scale 16 bits to 8, a part at a time: the numbers between take twice the room."""
    if 0 < high <= 255:
        raise ArenaError(
            f"'{name}': expected 16 bits up to 65535, got none above {high}, which would be black; "
            f"give the images as uint8"
        )
    scaled = np.empty(array.shape, dtype=np.uint8)
    for start in range(0, len(array), _AT_ONCE):
        part = array[start : start + _AT_ONCE].astype(np.uint32)
        scaled[start : start + _AT_ONCE] = (part + 128) // 257
    return torch.from_numpy(scaled)
