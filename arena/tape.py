"""Keeps an episode's queries in files beside the log, while it is played.

A tape holds every query and answer, in shards of compressed arrays; a sample is one small picture
with a row of queries for each checkpoint. A thread of its own compresses and writes. What waits for
it is bounded: where the disk cannot keep up, the game waits instead of filling the memory.
"""

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from arena.log import artifacts
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow
from envs.errors import ArenaError, LogError
from envs.oracle import Oracle
from envs.types import Response, ThreatModel

QUERIES, SAMPLE = "queries", "sample-queries"
"""Kinds of the artifacts."""

SHARD_BYTES = 16 * 2**20
"""A shard is written when its arrays have so many bytes before compression."""

WAITING = 32
"""Rounds that may wait for the disk."""

FULL_SECONDS = 0.001
"""How often the game looks whether there is room for its round."""

SHOWN = 16
"""Queries in a row of the sample."""

_SIDE = 32
"""Smaller images are enlarged to about so many pixels, to be seen at all."""


class Round(NamedTuple):
    """One request of the attacker's: (n, c, h, w) float32 images, (n, K) float32 answers."""

    images: Tensor
    targets: Tensor


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
        self._asked: Tensor | None = None
        self._last: Tensor | None = None
        self._samples: list[tuple[int, Tensor]] = []
        self._writer = _Writer(where, self._folder, self._rows) if queries and root else None

    def listening_to(self, oracle: Oracle) -> Oracle:
        """Put the tape between an attacker and its oracle."""
        return oracle if self._folder is None else _Listening(oracle, self)

    def ask(self, images: Tensor | None) -> None:
        """Hear what is being asked; None: nothing any more."""
        self._asked = images

    def keep(self, images: Tensor, response: Response) -> None:
        """Keep what was asked and answered; the copies are made on the device.

        Raises:
            LogError: an earlier round could not be written.
        """
        shown = images if images.shape[0] <= SHOWN else images[:SHOWN]
        self._last = shown.detach().clone()
        if self._writer is not None:
            self._writer.put(Round(images.detach().clone(), response.targets.detach().clone()))

    def sample(self, used: int) -> None:
        """Take a row of the latest queries for the picture."""
        # a checkpoint falls inside a round, whose queries were asked and not yet answered
        latest = self._last if self._asked is None else self._asked[:SHOWN]
        if self._folder is not None and latest is not None:
            self._samples.append((used, latest.detach().float().cpu().clone()))

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
            raise _refused(self._folder, error) from error
        finally:
            if self._writer is not None:
                self._writer.close()

    def _write_sample(self, folder: Path, samples: Sequence[tuple[int, Tensor]]) -> None:
        from PIL import Image

        path = folder / "sample.png"
        folder.mkdir(parents=True, exist_ok=True)
        with _whole(path) as part, part.open("wb") as file:
            Image.fromarray(grid([images for _, images in samples])).save(file, "PNG")
        meta = {"queries_used": [used for used, _ in samples], "columns": SHOWN}
        self._rows.put(artifacts.describe(self._where, path, SAMPLE, meta=meta))


class _Listening:
    """The oracle with a tape that listens; to an attacker it is the oracle."""

    __slots__ = ("__oracle", "__tape")

    def __init__(self, oracle: Oracle, tape: Tape) -> None:
        self.__oracle, self.__tape = oracle, tape

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        return self.__oracle.threat

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        return self.__oracle.remaining

    def query(self, images: Tensor) -> Response:
        """Ask for answers; see `envs.oracle.Oracle.query`."""
        self.__tape.ask(images)
        try:
            response = self.__oracle.query(images)
        finally:
            self.__tape.ask(None)
        self.__tape.keep(images, response)
        return response


class _Writer:
    """Writes rounds in shards from a thread of its own."""

    def __init__(
        self, where: str, folder: Path | None, rows: "queue.SimpleQueue[ArtifactRow]"
    ) -> None:
        assert folder is not None
        self._where, self._folder, self._rows = where, folder, rows
        # A round, a wish to be told when all before it is written, or None: the end. Not `Queue`:
        # an interrupt inside its Python code can lose the call that wakes the thread.
        self._waiting: queue.SimpleQueue[Round | threading.Event | None] = queue.SimpleQueue()
        self._fault: Exception | None = None
        self._shards = 0
        # a daemon: a process that is told to end does not wait for it; `close` does
        self._thread = threading.Thread(target=self._work, name="arena-tape", daemon=True)
        self._thread.start()

    def put(self, round: Round) -> None:
        self._check()
        while self._waiting.qsize() >= WAITING and self._thread.is_alive():
            time.sleep(FULL_SECONDS)
        self._waiting.put(round)

    def flush(self) -> int:
        """Write a shard of what is held; returns how many shards there are."""
        self._check()
        written = threading.Event()
        self._waiting.put(written)
        written.wait()
        self._check()
        return self._shards

    def go_on(self, shards: int) -> None:
        """Count on from so many shards, before the first round."""
        self._shards = shards
        for path in self._folder.glob("queries-*.npz"):
            if int(path.stem.partition("-")[2]) >= shards:
                path.unlink()

    def close(self) -> None:
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._fault is not None:
            raise _refused(self._folder, self._fault) from self._fault

    def _work(self) -> None:
        """Gather rounds into shards until told to stop; after a fault, only empty the queue."""
        held: list[Round] = []
        size = 0
        while (round := self._waiting.get()) is not None:
            if isinstance(round, threading.Event):
                if held and self._fault is None:
                    self._write(held)
                held, size = [], 0
                round.set()
                continue
            if self._fault is not None:
                continue
            held.append(Round(round.images.cpu(), round.targets.cpu()))
            size += round.images.nbytes + round.targets.nbytes
            if size >= SHARD_BYTES:
                self._write(held)
                held, size = [], 0
        if held and self._fault is None:
            self._write(held)

    def _write(self, held: Sequence[Round]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"queries-{self._shards:05d}.npz"
            with _whole(path) as part, part.open("wb") as file:
                np.savez_compressed(
                    file,
                    images=torch.cat([round.images for round in held]).numpy(),
                    targets=torch.cat([round.targets for round in held]).numpy(),
                    rounds=np.array([len(round.images) for round in held], dtype=np.int64),
                )
            count = sum(len(round.images) for round in held)
            meta = {"shard": self._shards, "rounds": len(held), "queries": count}
            self._rows.put(artifacts.describe(self._where, path, QUERIES, meta=meta))
            self._shards += 1
        except Exception as error:  # told to the game's thread at its next round
            self._fault = error


class _whole:  # noqa: N801 - reads as the verb it is at its uses
    """Lend a name beside a file, and move it there when all went well."""

    def __init__(self, path: Path) -> None:
        self._path, self._part = path, path.with_name(f".{path.name}.part")

    def __enter__(self) -> Path:
        return self._part

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            os.replace(self._part, self._path)
        else:
            self._part.unlink(missing_ok=True)


def _refused(folder: Path | None, error: Exception) -> LogError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return LogError(f"cannot write queries to {folder}: {reason or type(error).__name__}; make "
                    f"room, or set record = \"digests\"")  # fmt: skip


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


def require_tape(log: LogReader, episode_id: str) -> list[ArtifactRow]:
    """List the shards of an episode's tape in order.

    Raises:
        ArenaError: it kept no queries, or a shard is missing.
    """
    shards = [row for row in log.artifacts(episode_id) if row.kind == QUERIES]
    shards.sort(key=lambda row: int(str(row.meta["shard"])))
    if not shards:
        raise ArenaError(
            f'episode {episode_id} kept no queries; play it with record = "queries" '
            f"(arena run FILE --set record=queries)"
        )
    for number, row in enumerate(shards):
        there = artifacts.locate(log.where, row.path).is_file()
        if row.meta["shard"] != number or not there:
            raise ArenaError(f"episode {episode_id}: shard {number} of its queries is not there; "
                             f"see 'arena log check'")  # fmt: skip
    return shards


def rounds_on_tape(log: LogReader, episode_id: str) -> Iterator[Round]:
    """Read the rounds of an episode from its tape, in order, a shard at a time.

    Raises:
        ArenaError: see `require_tape`; or a shard was altered.
    """
    for row in require_tape(log, episode_id):
        path = artifacts.locate(log.where, row.path)
        if artifacts.digest(path) != row.sha256:
            raise ArenaError(f"episode {episode_id}: {row.path} was altered")
        with np.load(path, allow_pickle=False) as arrays:
            images, targets = (torch.from_numpy(arrays[name]) for name in ("images", "targets"))
            sizes = arrays["rounds"].tolist()
        yield from map(Round, images.split(sizes), targets.split(sizes))
