"""Keeps an episode's queries in files beside the log, while it is played.

A tape holds every query and answer, in shards of compressed arrays; a sample holds a few
queries of each checkpoint.
"""

import queue
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from arena.log import artifacts
from arena.log.rows import ArtifactRow
from arena.recording.samples import SAMPLE, SHOWN, Asked, write_samples
from arena.recording.shards import RecordedRound, ShardWriter, refused
from envs.atomic_file import whole_file
from envs.errors import LogError, ScenarioError
from envs.game.rounds import Round


def require_places(where: str, *, record: str, keep: Collection[str]) -> None:
    """Refuse settings that keep files where the log has no folder beside it.

    Args:
        where: the log, as it was named.
        record: of the scenario.
        keep: of the scenario.

    Raises:
        ScenarioError: says what to do instead.
    """
    if artifacts.folder_of(where) is not None:
        return
    asked = {'record = "queries"': ("record=digests", record == "queries"),
             'keep = ["clone"]': ("keep=[]", bool(keep))}  # fmt: skip
    for setting, (without, is_set) in asked.items():
        if is_set:
            raise ScenarioError(
                f"{setting} keeps files beside the log, and {where} is no file; play into a file "
                f"(--log FILE), or without (--set {without})"
            )


class Tape:
    """Keeps the queries of one episode; does nothing where the log is no file.

    Args:
        where: the log, as it was named.
        episode_id: whose queries.
        queries: keep all of them, not only a sample.

    Attributes:
        undefended: gives the undefended victim's (n, K) posteriors of (n, c, h, w) images, which
            are kept beside the answers; None where the victim runs elsewhere.
    """

    def __init__(self, where: str, episode_id: str, *, queries: bool) -> None:
        root = artifacts.folder_of(where)
        self._where = where
        self._folder = None if root is None else root / episode_id
        self._rows: queue.SimpleQueue[ArtifactRow] = queue.SimpleQueue()
        self._fault: LogError | None = None
        self.undefended: Callable[[Tensor], Tensor] | None = None
        self._last: Tensor | None = None
        self._samples: list[tuple[int, Tensor]] = []
        self._writer = (
            ShardWriter(where, self._folder, self._rows) if queries and self._folder else None
        )

    def on_round(self, round: Round) -> None:
        """Keep what was asked and answered; the copies are made on the device.

        Where the disk takes no more, the game goes on without; `close` tells it.
        """
        if self._folder is None:
            return
        images = round.attack.images
        # the game's own copy, which is written into no more; of a large request, a part alone
        self._last = images if images.shape[0] <= SHOWN else images[:SHOWN].clone()
        # what is not charged is not taped: a tape is what the budget bought
        if self._writer is not None and self._fault is None and round.is_charged:
            try:
                self._writer.put(self._recorded(round))
            except LogError as error:
                self._fault = error

    def _recorded(self, round: Round) -> RecordedRound:
        """Copy what is kept of a round, with what the attacker did not see."""
        images, latency, exits = round.attack.images, round.attack.latency, round.attack.exits
        if round.attack.refused is not None:
            exits = exits.new_full(images.shape[:1], -1)
            latency = torch.full(images.shape[:1], torch.nan, dtype=torch.float64)
        known = self.undefended is not None
        return RecordedRound(
            images.clone(),
            round.given.clone(),
            round.account,
            exits=exits.clone() if known else None,
            seconds=None if latency is None else latency.clone(),
            undefended=None if self.undefended is None else self.undefended(images).clone(),
        )

    @property
    def where(self) -> str:
        """The log, as it was named."""
        return self._where

    def sample(self, used: int) -> None:
        """Keep some of the latest queries as a sample."""
        if self._last is not None:
            pixels = (self._last.clamp(0, 1) * 255).round().to(torch.uint8)
            self._samples.append((used, pixels.cpu()))

    def state(self) -> dict[str, object]:
        """Return where the tape stands, with the rounds that are in no shard yet; see `restore`."""
        shards: int | None = 0
        held: list[RecordedRound] = []
        if self._writer is not None:
            try:
                shards, held = self._writer.held()
            except LogError as error:
                self._fault, shards = error, None
        rounds = [tuple(round) for round in held]
        return {"last": self._last, "samples": list(self._samples), "shards": shards,
                "held": rounds}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:  # Any: as `state` returns it
        """Go on where another tape of the same episode stood; later shards are removed.

        Called once the episode is this process's own.
        """
        self._last, self._samples = state["last"], state["samples"]
        if self._writer is None:
            return
        if state["shards"] is None:
            self._fault = refused(self._folder, OSError(0, "an earlier round could not be written"))
            return
        held = [RecordedRound(*round) for round in state["held"]]
        try:
            self._writer.go_on(int(state["shards"]), held)
        except OSError as error:
            self._fault = refused(self._folder, error)

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
        if self._fault is not None:
            raise self._fault

    def _write_sample(self, folder: Path, samples: Sequence[tuple[int, Tensor]]) -> None:
        path = folder / "sample.npz"
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as part, part.open("wb") as file:
            write_samples(file, [Asked(used, images.numpy()) for used, images in samples])
        self._rows.put(artifacts.describe(self._where, path, SAMPLE))
