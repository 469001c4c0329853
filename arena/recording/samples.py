"""Keeps a few queries of each checkpoint as arrays, reads them back, and draws them on demand."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from arena.log import artifacts
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow

Pixels = NDArray[np.uint8]

SAMPLE = "sample-queries"
"""Kind of the artifact."""

SHOWN = 16
"""Queries kept of each checkpoint."""


class Asked(NamedTuple):
    """Some queries of one request.

    Attributes:
        queries_used: images the attacker had asked for when they were taken.
        images: (n, c, h, w) uint8.
    """

    queries_used: int
    images: Pixels


def write_samples(file: IO[bytes], samples: Sequence[Asked]) -> None:
    """Write samples as a compressed NumPy archive.

    It holds `images` (n, c, h, w) uint8 of all samples, one after the other, and for each sample
    `counts`, how many images are its own, and `queries_used`.
    """
    np.savez_compressed(
        file,
        images=np.concatenate([asked.images for asked in samples]),
        counts=np.array([len(asked.images) for asked in samples], dtype=np.int64),
        queries_used=np.array([asked.queries_used for asked in samples], dtype=np.int64),
    )


def asked_in(log: LogReader, episode_id: str) -> tuple[Asked, ...]:
    """Read an episode's samples, earliest first.

    Empty where none were kept, or their file is not there, was altered, or holds something else.
    """
    return samples_of(log, [episode_id]).get(episode_id, ())


def samples_of(log: LogReader, ids: Iterable[str]) -> dict[str, tuple[Asked, ...]]:
    """Read the samples of many episodes, by id; those that have none are missing."""
    rows = log.of_episodes(ArtifactRow, ids).items()
    kept = ((id, row) for id, files in rows if (row := _latest(files)) is not None)
    return {id: found for id, row in kept if (found := _read(log, id, row))}


def _read(log: LogReader, episode_id: str, row: ArtifactRow) -> tuple[Asked, ...]:
    path = artifacts.inside(log.where, episode_id, row.path)
    try:
        if path is None or artifacts.digest(path) != row.sha256:
            return ()
        with np.load(path, allow_pickle=False) as arrays:
            images, used = arrays["images"], arrays["queries_used"].tolist()
            parts = np.split(images, arrays["counts"].cumsum()[:-1])
    except (OSError, ValueError, KeyError, IndexError, TypeError, BadZipFile, EOFError):
        return ()
    if images.dtype != np.uint8 or images.ndim != 4 or len(parts) != len(used):
        return ()
    return tuple(Asked(at, part) for at, part in zip(used, parts, strict=True) if part.size)


def sample_path(log: LogReader, episode_id: str) -> Path | None:
    """Say where an episode's samples lie, or lay; None where none were kept beside the log."""
    row = _latest(log.artifacts(episode_id))
    return None if row is None else artifacts.inside(log.where, episode_id, row.path)


def _latest(files: Iterable[ArtifactRow]) -> ArtifactRow | None:
    rows = [row for row in files if row.kind == SAMPLE]
    return rows[-1] if rows else None


def picture(rows: Sequence[Pixels], *, columns: int, side: int, gap: int, ground: int) -> Pixels:
    """Lay out images as one picture, each row of images under the one before it.

    Args:
        rows: (n, c, h, w) uint8 each, all of one shape but for n.
        columns: images of a row that are drawn.
        side: a longer side than this many pixels is shrunk to it, by the mean over areas.
        gap: pixels below and to the right of each image.
        ground: grey of the gaps and of places without an image, 0 to 255.

    Returns:
        (height, width) uint8 for images of one channel, (height, width, 3) for others, of which
        at most the first three channels are shown.
    """
    lines = [[_shown(image, side) for image in images[:columns]] for images in rows]
    height, width, *colours = lines[0][0].shape
    down, across = height + gap, width + gap
    canvas = np.full((down * len(lines), across * columns, *colours), ground, dtype=np.uint8)
    for line, images in enumerate(lines):
        for place, image in enumerate(images):
            top, left = line * down, place * across
            canvas[top : top + height, left : left + width] = image
    return canvas


def _shown(image: Pixels, side: int) -> Pixels:
    """Turn (c, h, w) into (h, w) or (h, w, 3), not larger than `side`."""
    channels, *size = image.shape
    shown = image[0] if channels == 1 else image[[0, 1, min(2, channels - 1)]].transpose(1, 2, 0)
    if max(size) <= side:
        return shown
    from PIL import Image

    small = Image.fromarray(np.ascontiguousarray(shown))
    small.thumbnail((side, side), Image.Resampling.BOX)
    return np.asarray(small)
