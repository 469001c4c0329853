"""Reads the pictures a tape leaves: what an attacker asked, a row for each checkpoint."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from arena.log import artifacts
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow

Pixels = NDArray[np.uint8]

SAMPLE = "sample-queries"
"""Kind of these artifacts, as `arena.recording.recorded_oracle` names it; that module would
bring torch along."""

GROUND = 128
"""The grey between and behind the images of a sample."""


class Asked(NamedTuple):
    """Some queries of one request.

    Attributes:
        queries_used: the ledger when they were taken.
        images: (h, w) or (h, w, 3) each; none that was left empty.
    """

    queries_used: int
    images: tuple[Pixels, ...]


def asked_in(log: LogReader, episode_id: str) -> tuple[Asked, ...]:
    """Read an episode's sample, earliest first; empty where none was kept or it is not there."""
    rows = [row for row in log.artifacts(episode_id) if row.kind == SAMPLE]
    return _read(log, episode_id, rows[-1]) if rows else ()


def _read(log: LogReader, episode_id: str, row: ArtifactRow) -> tuple[Asked, ...]:
    """Cut the picture into its images; a file that was lost, altered or cut short has none."""
    from PIL import Image

    path = artifacts.inside(log.where, episode_id, row.path)
    try:
        if path is None or artifacts.digest(path) != row.sha256:
            return ()
        with Image.open(path) as picture:
            canvas = np.asarray(picture)
    except OSError:
        return ()
    used, columns = row.meta.get("queries_used"), row.meta.get("columns")
    if not isinstance(used, list) or not isinstance(columns, int) or not used:
        return ()
    height, width = (canvas.shape[0] - 1) // len(used), (canvas.shape[1] - 1) // columns
    rows = []
    for line, queries in enumerate(used):
        cells = [
            canvas[line * height + 1 : (line + 1) * height, at * width + 1 : (at + 1) * width]
            for at in range(columns)
        ]
        rows.append(Asked(int(queries), tuple(cell for cell in cells if _holds_an_image(cell))))
    return tuple(row for row in rows if row.images)


def _holds_an_image(cell: Pixels) -> bool:
    """Tell a place of the picture that was never filled: it has the grey of the ground."""
    return not bool((cell == GROUND).all())
