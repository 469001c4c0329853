"""The shards of a tape: every query and answer of an episode, in files of compressed arrays.

A thread of its own compresses and writes. What waits for it is bounded: where the disk cannot keep
up, the game waits instead of filling the memory.
"""

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
from arena.recording.excerpts import QUERIES, shards_of
from envs.atomic_file import LEFT, whole_file
from envs.errors import ArenaError, LogError

SHARD_BYTES = 16 * 2**20
"""A shard is written when its arrays have so many bytes before compression."""

WAITING = 32
"""Rounds that may wait for the disk."""

FULL_SECONDS = 0.001
"""How often the game looks whether there is room for its round."""


class RecordedRound(NamedTuple):
    """One request of the attacker's.

    Attributes:
        images: (n, c, h, w) float32.
        posteriors: (n, K) float32, its answers; zeros where it was refused.
        account: which of the attacker's accounts asked.
        exits: (n,) int64, the exit of each answer, -1 where it was refused; None of a victim
            elsewhere.
        seconds: (n,) float64, the latency of each answer, NaN where it was refused; None in a game
            without a clock.
        undefended: (n, K) float32, what the undefended victim says; None of a victim elsewhere.
    """

    images: Tensor
    posteriors: Tensor
    account: int = 0
    exits: Tensor | None = None
    seconds: Tensor | None = None
    undefended: Tensor | None = None


class TapeGone(ArenaError):  # noqa: N818 - named as DataMissing is
    """No shard, or not every one, is where it was kept."""


class _Look(NamedTuple):
    """A question to the thread, which puts what it holds into `held` and sets `done`."""

    held: list[RecordedRound]
    done: threading.Event


class ShardWriter:
    """Writes rounds in shards from a thread of its own.

    Args:
        where: the log, as it was named.
        folder: of the episode's files.
        rows: takes the artifact of each shard that is complete.
    """

    def __init__(self, where: str, folder: Path, rows: "queue.SimpleQueue[ArtifactRow]") -> None:
        self._where, self._folder, self._rows = where, folder, rows
        # A round, a question what is held, or None: the end. Not `Queue`:
        # an interrupt inside its Python code can lose the call that wakes the thread.
        self._waiting: queue.SimpleQueue[RecordedRound | _Look | None] = queue.SimpleQueue()
        self._fault: Exception | None = None
        self._shards = 0
        # a daemon: a process that is told to end does not wait for it; `close` does
        self._thread = threading.Thread(target=self._work, name="arena-tape", daemon=True)
        self._thread.start()

    def put(self, round: RecordedRound) -> None:
        """Take a round; waits while too many wait for the disk.

        Raises:
            LogError: an earlier round could not be written.
        """
        self._check()
        while self._waiting.qsize() >= WAITING and self._thread.is_alive():
            time.sleep(FULL_SECONDS)
        self._waiting.put(round)

    def held(self) -> tuple[int, list[RecordedRound]]:
        """Return how many shards are written, and the rounds that wait for the next one.

        A save keeps these rounds, so that shards end where they would end without it.

        Raises:
            LogError: not everything could be written.
        """
        self._check()
        look = _Look([], threading.Event())
        self._waiting.put(look)
        look.done.wait()
        self._check()
        return self._shards, look.held

    def go_on(self, shards: int, held: Sequence[RecordedRound]) -> None:
        """Go on where `held` was asked, before the first round; what was written after goes."""
        self._shards = shards
        for left in self._folder.glob(f".queries-*{LEFT}"):
            left.unlink()
        for path in self._folder.glob("queries-*.npz"):
            if int(path.stem.partition("-")[2]) >= shards:
                path.unlink()
        for round in held:
            self._waiting.put(round)

    def close(self) -> None:
        """Write what is left and end the thread; twice does no harm.

        Raises:
            LogError: not everything could be written.
        """
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()
        self._check()

    def _check(self) -> None:
        if self._fault is not None:
            raise refused(self._folder, self._fault) from self._fault

    def _work(self) -> None:
        """Gather rounds into shards until told to stop; after a fault, only empty the queue."""
        held: list[RecordedRound] = []
        size = 0
        while (round := self._waiting.get()) is not None:
            if isinstance(round, _Look):
                round.held.extend(held)
                round.done.set()
                continue
            if self._fault is not None:
                continue
            try:
                held.append(_on_host(round))
            except Exception as error:  # no memory; told as `_write` tells
                self._fault, held = error, []
                continue
            size += round.images.nbytes + round.posteriors.nbytes
            if size >= SHARD_BYTES:
                self._write(held)
                held, size = [], 0
        if held and self._fault is None:
            self._write(held)

    def _write(self, held: Sequence[RecordedRound]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / f"queries-{self._shards:05d}.npz"
            accounts = np.array([round.account for round in held], dtype=np.int64)
            arrays: dict[str, Any] = {  # Any: of several dtypes
                "images": torch.cat([round.images for round in held]).numpy(),
                "posteriors": torch.cat([round.posteriors for round in held]).numpy(),
                "rounds": np.array([len(round.images) for round in held], dtype=np.int64),
            }
            if accounts.any():
                arrays["accounts"] = accounts
            for name in _EXTRAS:
                parts = [getattr(round, name) for round in held]
                if all(part is not None for part in parts):
                    arrays[name] = torch.cat(parts).numpy()
            with whole_file(path) as part, part.open("wb") as file:
                np.savez_compressed(file, **arrays)
            count = sum(len(round.images) for round in held)
            meta = {"shard": self._shards, "rounds": len(held), "queries": count}
            self._rows.put(artifacts.describe(self._where, path, QUERIES, meta=meta))
            self._shards += 1
        except Exception as error:  # told to the game's thread at its next round
            self._fault = error


_EXTRAS = ("exits", "seconds", "undefended")
"""Arrays that a shard has where the game knows them."""


def _on_host(round: RecordedRound) -> RecordedRound:
    """Bring a round's tensors off its device."""
    on_host = (part.cpu() if isinstance(part, Tensor) else part for part in round)
    return RecordedRound(*on_host)  # type: ignore[arg-type]  # each as it was, in its place


def require_tape(log: LogReader, episode_id: str) -> list[ArtifactRow]:
    """List the shards of an episode's tape in order.

    Raises:
        ArenaError: it kept no queries, or a shard is missing.
    """
    shards = shards_of(log, episode_id)
    if not shards:
        raise ArenaError(
            f'episode {episode_id} kept no queries; play it with record = "queries" '
            f"(arena run FILE --set record=queries)"
        )
    for number, row in enumerate(shards):
        there = artifacts.locate(log.where, episode_id, row.path).is_file()
        if row.meta["shard"] != number or not there:
            raise TapeGone(f"episode {episode_id}: shard {number} of its queries is not there; "
                             f"see 'arena log check'")  # fmt: skip
    taped = sum(int(str(row.meta["queries"])) for row in shards)
    if (asked := log.episode(episode_id).queries_used) is not None and taped != asked:
        raise ArenaError(f"episode {episode_id}: its tape ends after {taped} of {asked} queries, "
                         f"because the rest could not be written")  # fmt: skip
    return shards


def rounds_on_tape(log: LogReader, episode_id: str) -> Iterator[RecordedRound]:
    """Read the rounds of an episode from its tape, in order, a shard at a time.

    Raises:
        ArenaError: see `require_tape`; or a shard was altered.
    """
    for row in require_tape(log, episode_id):
        path = artifacts.locate(log.where, episode_id, row.path)
        if artifacts.digest(path) != row.sha256:
            raise ArenaError(f"episode {episode_id}: {row.path} was altered")
        with np.load(path, allow_pickle=False) as arrays:
            sizes = arrays["rounds"].tolist()
            accounts = arrays["accounts"].tolist() if "accounts" in arrays else [0] * len(sizes)
            parts = {
                name: torch.from_numpy(arrays[name]).split(sizes)
                for name in ("images", "posteriors", *_EXTRAS)
                if name in arrays
            }
        for place, account in enumerate(accounts):
            mine = {name: of_round[place] for name, of_round in parts.items()}
            yield RecordedRound(account=account, **mine)


def refused(folder: Path | None, error: Exception) -> LogError:
    """Say in one line that queries cannot be written, and why."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return LogError(f"cannot write queries to {folder}: {reason or type(error).__name__}; make "
                    f"room, or set record = \"digests\"")  # fmt: skip
