"""Keeps an episode's queries in files beside the log, while it is played.

A tape holds every query and answer, in shards of compressed arrays; a sample is one small picture
with a row of queries for each checkpoint.
"""

import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arena.log import artifacts
from arena.log.rows import ArtifactRow
from arena.recording.shards import RecordedRound, ShardWriter, refused
from envs.atomic_file import whole_file
from envs.game.rounds import Round

SAMPLE = "sample-queries"
"""Kind of the picture."""

SHOWN = 16
"""Queries in a row of the sample."""

_SIDE = 32
"""Smaller images are enlarged to about so many pixels, to be seen at all."""


class Tape:
    """Keeps the queries of one episode; does nothing where the log is no file.

    Args:
        where: the log, as it was named.
        episode_id: whose queries.
        queries: keep all of them, not only a sample.
    """

    def __init__(self, where: str, episode_id: str, *, queries: bool) -> None:
        root = artifacts.folder_of(where)
        self._where = where
        self._folder = None if root is None else root / episode_id
        self._rows: queue.SimpleQueue[ArtifactRow] = queue.SimpleQueue()
        self._last: Tensor | None = None
        self._samples: list[tuple[int, Tensor]] = []
        self._writer = (
            ShardWriter(where, self._folder, self._rows) if queries and self._folder else None
        )

    def on_round(self, round: Round) -> None:
        """Keep what was asked and answered; the copies are made on the device.

        Raises:
            LogError: an earlier round could not be written.
        """
        if self._folder is None:
            return
        images = round.attack.images
        # a slice costs as much as the copy of a small request
        self._last = (images if images.shape[0] <= SHOWN else images[:SHOWN]).clone()
        if self._writer is not None:
            self._writer.put(RecordedRound(images.clone(), round.given.clone()))

    def sample(self, used: int) -> None:
        """Take a row of the latest queries for the picture."""
        if self._last is not None:
            self._samples.append((used, self._last.cpu().clone()))

    def state(self) -> dict[str, object]:
        """Write what waits for the disk, and return where the tape stands; see `restore`.

        Raises:
            LogError: it could not be written.
        """
        shards = 0 if self._writer is None else self._writer.flush()
        return {"last": self._last, "samples": list(self._samples), "shards": shards}

    def restore(self, state: dict[str, Any]) -> None:  # Any: as `state` returns it
        """Go on where another tape of the same episode stood; later shards are removed."""
        self._last, self._samples = state["last"], state["samples"]
        if self._writer is not None:
            self._writer.go_on(int(state["shards"]))

    def finished(self) -> Iterator[ArtifactRow]:
        """Give the rows of the files that are complete, each once."""
        while not self._rows.empty():
            yield self._rows.get()

    def close(self) -> None:
        """Write what is left; twice does no harm.

        Raises:
            LogError: not everything could be written.
        """
        samples, self._samples = self._samples, []
        try:
            if self._folder is not None and samples:
                self._write_sample(self._folder, samples)
        except OSError as error:
            raise refused(self._folder, error) from error
        finally:
            if self._writer is not None:
                self._writer.close()

    def _write_sample(self, folder: Path, samples: Sequence[tuple[int, Tensor]]) -> None:
        from PIL import Image

        path = folder / "sample.png"
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part, part.open("wb") as file:
            Image.fromarray(grid([images for _, images in samples])).save(file, "PNG")
        meta = {"queries_used": [used for used, _ in samples], "columns": SHOWN}
        self._rows.put(artifacts.describe(self._where, path, SAMPLE, meta=meta))


def grid(rows: Sequence[Tensor]) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Lay out rows of (n, c, h, w) images in [0, 1] as one picture.

    Returns:
        (height, width) uint8 for grey images, (height, width, 3) for others; small images are
        enlarged by whole factors, a pixel of grey lies between them.
    """
    channels, height, width = rows[0].shape[1:]
    factor = max(1, _SIDE // max(height, width))
    cell = (height * factor + 1, width * factor + 1)
    shown = 1 if channels == 1 else 3
    canvas = np.full((cell[0] * len(rows) + 1, cell[1] * SHOWN + 1, shown), 128, dtype=np.uint8)
    for line, images in enumerate(rows):
        for column, image in enumerate(images[:SHOWN]):
            colours = image if shown == 1 else image[[0, 1 % channels, min(2, channels - 1)]]
            pixels = (colours.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
            large = pixels.repeat(factor, axis=0).repeat(factor, axis=1)
            top, left = line * cell[0] + 1, column * cell[1] + 1
            canvas[top : top + large.shape[0], left : left + large.shape[1]] = large
    return canvas[..., 0] if shown == 1 else canvas
