"""Decodes image files: upright, in 8 bits, in one size."""

import struct
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import torch
from annotated_types import Len
from torch import Tensor

from envs.errors import ArenaError, DataMissing, one_line
from envs.ranges import Side

if TYPE_CHECKING:
    from PIL import Image

_LARGEST = 512  # pixels a side that images may have where no size is asked for
_MARGIN = 256 / 224  # of the frame that an image covers before its middle is cut out
_ORIENTATION = 0x0112  # EXIF: how the camera was held
_TURNED, _ON_THEIR_SIDE = range(2, 9), range(5, 9)

Size = Side | Annotated[Sequence[Side], Len(2, 2)]


class Picture(NamedTuple):
    """An image file.

    Attributes:
        source: its path, or its bytes.
        name: what messages call it.
    """

    source: Path | str | IO[bytes]
    name: str


_undecoded = ContextVar("undecoded", default=False)


@contextmanager
def undecoded() -> Iterator[None]:
    """Let images of files be counted and not decoded: each is one black pixel meanwhile."""
    before = _undecoded.set(True)
    try:
        yield
    finally:
        _undecoded.reset(before)


def stacked(files: Iterable[Picture], count: int, decode: Callable[[Picture], Tensor]) -> Tensor:
    """Read images into one (count, c, h, w) uint8 tensor, each decoded straight into its place.

    Raises:
        ArenaError: they differ in size.
    """
    if _undecoded.get():
        return torch.zeros((count, 1, 1, 1), dtype=torch.uint8)
    pixels = torch.empty(0, dtype=torch.uint8)
    for k, file in enumerate(files):
        image = decode(file)
        if k == 0:
            pixels = torch.empty((count, *image.shape), dtype=torch.uint8)
        if image.shape != pixels.shape[1:]:
            raise ArenaError(
                f"images differ in size: {tuple(pixels.shape[2:])} and {tuple(image.shape[1:])} "
                f"in {file.name}; set 'size' to bring them to one"
            )
        pixels[k] = image
    return pixels


def decoded(file: Picture, *, size: tuple[int, int] | None, grey: bool, cover: bool) -> Tensor:
    """Read one image, upright, resized with an antialiasing filter where it must be.

    Args:
        file: the image.
        size: (height, width); its own where nothing is given.
        grey: read it as a grey one.
        cover: see `envs.data.folders.read_files`.

    Returns:
        (c, h, w) uint8.

    Raises:
        DataMissing: it cannot be read.
        ArenaError: it is too large to be read without a size.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow only warns of an image that would fill the memory
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file.source) as opened:
                if size is None:
                    _check_sides(file.name, opened.height, opened.width)
                image = _eight_bits(_upright(opened)).convert("L" if grey else "RGB")
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise DataMissing(f"cannot read the image {file.name}: {one_line(error)}") from error
    if size is not None and image.size != (size[1], size[0]):
        frame = _middle(image.size, size) if cover else None
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR, box=frame)
    array = np.array(image, dtype=np.uint8)
    return torch.from_numpy(array if array.ndim == 3 else array[:, :, None]).permute(2, 0, 1)


def _check_sides(name: str, height: int, width: int) -> None:
    if max(height, width) > _LARGEST:
        raise ArenaError(
            f"{name} has {width} x {height} pixels, and without 'size' images of at most "
            f"{_LARGEST} a side are read; set 'size' (224, say) to resize them"
        )


def _upright(image: "Image.Image") -> "Image.Image":
    """Turn a photograph as its camera was held; camera data that are damaged say nothing."""
    from PIL import ImageOps

    if _orientation(image) not in _TURNED:
        return image
    return ImageOps.exif_transpose(image)


def _orientation(image: "Image.Image") -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return None


def _eight_bits(image: "Image.Image") -> "Image.Image":
    """Scale 16 bits of grey to 8, which Pillow cuts off at 255; resolve palettes with alpha."""
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floats, whose black and white nobody tells; expected 8 or 16 bits")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray(((values.clip(0, 65535) + 128) // 257).astype(np.uint8))
    return image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image


def _middle(image: tuple[int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Find the frame in the middle of a (width, height) image that becomes the (height, width)."""
    width, height = image
    scale = _MARGIN * max(size[0] / height, size[1] / width)
    across, down = min(size[1] / scale, width), min(size[0] / scale, height)
    left, top = (width - across) / 2, (height - down) / 2
    return left, top, left + across, top + down


def height_width(size: Size | None) -> tuple[int, int] | None:
    """Return (height, width) of a size; None where none is given. Raises ArenaError."""
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < 1:
        raise ArenaError(f"expected a size in pixels or (height, width), got {size}")
    return int(sides[0]), int(sides[1])


def sides_of(file: Path) -> tuple[int, int] | None:
    """Read height and width of an image; None where it is damaged, which reading it will tell."""
    from PIL import Image

    try:
        with Image.open(file) as opened:
            across = _orientation(opened) in _ON_THEIR_SIDE
            return (opened.width, opened.height) if across else (opened.height, opened.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
