"""Writes an episode down while it is played: bounded buckets of rounds, and checkpoints."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from arena.evaluation.referee import CloneScore, Referee
from arena.isolation.attacker import ChildError
from arena.log.metric import UNTRAINED
from arena.log.rows import CheckpointRow, Exits, RoundRow, added_exits
from arena.recording.tape import Tape
from arena.runner.countermeasures import CountermeasureCounts
from arena.runner.progress import Progress, Watcher
from arena.runner.stopping import STOP
from envs.errors import LogError, PlayerError, one_line
from envs.game.counters import SideTally, Tally
from envs.game.extraction_game import ExtractionGame
from envs.game.rounds import Round

if TYPE_CHECKING:
    from agents.base import Attacker
    from arena.log.writer import EpisodeWriter

BUCKETS = 100
"""Round rows of an episode at most: a log does not grow with the budget."""

FLUSH_SECONDS = 2.0
"""A kill loses the rounds of so many seconds at most."""

WATCH_SECONDS = 0.2
"""Watchers are told of progress this often."""

_REMEMBERED = ("_last", "_bucket", "_index", "_score", "_reported", "_countermeasures", "_ends")


class Recorder:
    """Writes the rounds and checkpoints of a game to the log.

    It observes rounds after everything that it reads: the tape and what `measured` gives.

    Args:
        game: the game, which is only read.
        attacker: whose clone is measured.
        referee: who measures.
        writer: the episode's rows in the log.
        checkpoints: measurements along the budget.
        title: of the episode, for the watcher.
        watcher: is told where the episode stands.
        tape: keeps queries in files; sampled at every checkpoint.
        measured: gives more numbers for a checkpoint, measured by the arena itself.
        untrained: tells whether a clone has its initial weights still.
        costs_known: whether exits, compute and time of an answer are known.

    Attributes:
        clone_fault: how the clone failed at a checkpoint, in one line.
    """

    def __init__(
        self,
        game: ExtractionGame,
        attacker: "Attacker",
        referee: Referee,
        writer: "EpisodeWriter",
        *,
        checkpoints: int,
        title: str,
        watcher: Watcher,
        tape: Tape,
        measured: Callable[[], Mapping[str, float]] = dict,
        untrained: Callable[[nn.Module], bool] = lambda clone: False,
        costs_known: bool = True,
    ) -> None:
        self._game, self._attacker, self._referee = game, attacker, referee
        self._tape, self._measured, self._untrained = tape, measured, untrained
        self._costs_known = costs_known
        self._writer, self._watcher, self._checkpoints = writer, watcher, checkpoints
        self._title, self._budget = title, game.threat.budget
        self._began = time.monotonic()
        self._last = game.tally()
        self._bucket = self._index = 0
        self._next_look = 0.0
        self._next_flush = FLUSH_SECONDS
        self._score: CloneScore | None = None
        self._scored_untrained = False
        self.clone_fault: str | None = None
        self._reported: dict[str, float] = {}
        self._countermeasures = CountermeasureCounts()
        self._ends = [(0, 0)]  # answers to everybody, and budget used, at the end of each bucket

    @property
    def seconds(self) -> float:
        """Seconds since the episode began."""
        return time.monotonic() - self._began

    def report(self, values: dict[str, float]) -> None:
        """Take the numbers an attacker reports, for watchers and the next checkpoint."""
        self._reported = values

    def state(self) -> dict[str, object]:
        """Return what it remembers; see `restore`."""
        return {name: getattr(self, name) for name in _REMEMBERED} | {"seconds": self.seconds}

    def restore(self, state: dict[str, Any]) -> None:  # Any: as `state` returns it
        """Go on from where another recorder of the same episode stood."""
        for name in _REMEMBERED:
            setattr(self, name, state[name])
        self._began = time.monotonic() - float(state["seconds"])
        self._next_flush = self.seconds + FLUSH_SECONDS

    def used_at(self, answered: int) -> int:
        """Tell how much of the budget was used when so many images had been answered to everybody.

        Between the ends of two buckets it lies on a straight line, at most a hundredth of the
        budget off.
        """
        answers, used = zip(*self._ends, strict=True)
        return round(float(np.interp(answered, answers, used)))

    def close(self) -> Tally:
        """Write the last bucket and the last checkpoint; returns the final counters.

        The checkpoint has the score that `score_clone` measured last.
        """
        self._checkpoint(self._checkpoints - 1 if self._game.over else self._index)
        return self._close_bucket()

    def on_round(self, round: Round) -> None:
        """Write what is due after a round: its bucket, a checkpoint, progress."""
        self._countermeasures.on_round(round)
        game = self._game
        share, over = game.used / self._budget, game.remaining == 0
        if share * BUCKETS >= self._bucket + 1:
            self._close_bucket()
        # the last checkpoint waits until the attacker has learnt from the last answers
        if share * self._checkpoints >= self._index + 1 and not over:
            self._score = self._try_score()
            self._index = int(share * self._checkpoints)
            self._checkpoint(self._index - 1)
        now = time.monotonic()
        if now >= self._next_look or over:
            self._next_look = now + WATCH_SECONDS
            self._watcher.progress(self._title, self._progress())

    def _progress(self) -> Progress:
        accuracy = self._score.accuracy if self._score and not self._scored_untrained else None
        game = self._game
        return Progress(game.used, self._budget, accuracy, self.seconds, self._reported)

    def _close_bucket(self) -> Tally:
        tally, before, bucket = self._game.tally(), self._last, self._bucket
        # first, because writing may fail, and a row is not to be written twice
        self._last, self._bucket = tally, int(tally.used / self._budget * BUCKETS)
        if tally.rounds > before.rounds:
            self._ends.append((tally.attack.answered + tally.benign.answered, tally.used))
            row = _bucket_row(bucket, before, tally, self._countermeasures.take())
            self._writer.round(row if self._costs_known else _without_costs(row))
            if self.seconds >= self._next_flush:
                self._writer.flush()
                self._next_flush = self.seconds + FLUSH_SECONDS
        return tally

    def _checkpoint(self, index: int) -> None:
        # measured last: what an attacker reports cannot take its place
        measured = {**self._reported, **self._measured()}
        measured.pop(UNTRAINED, None)
        if self._scored_untrained:
            measured[UNTRAINED] = 1.0
        self._writer.checkpoint(
            CheckpointRow(
                index=index,
                queries_used=self._game.used,
                wall_seconds=self.seconds,
                clone_accuracy=self._score.accuracy if self._score else None,
                clone_fidelity=self._score.fidelity if self._score else None,
                metrics={name: float(value) for name, value in measured.items()},
            )
        )
        self._tape.sample(self._game.used)
        for row in self._tape.finished():
            self._writer.artifact(row)
        self._writer.flush()

    def keep_files(self) -> None:
        """Finish the files of queries, and add their rows; what fails is an event."""
        try:
            self._tape.close()
        except LogError as error:
            self._writer.event("files-incomplete", str(error), queries_used=self._game.used)
            self._watcher.line(f"{self._title}: {error}")
        for row in self._tape.finished():
            self._writer.artifact(row)

    def _try_score(self) -> CloneScore | None:
        """Score the clone as it stands; answers that are no logits are noted.

        Raises:
            PlayerError: its code failed.
        """
        try:
            return self._scored(self._referee.score_checkpoint)
        except _CloneError as fault:
            self.clone_fault = str(fault)
            raise
        except ChildError:  # its process is gone, and the attack with it
            raise
        except PlayerError as error:
            self._writer.event("clone-unusable", str(error), queries_used=self._game.used)
            return None

    def score_clone(self) -> CloneScore | None:
        """Score the final clone, for the last checkpoint and on the test images; None without one.

        Raises:
            PlayerError: its code fails, or its answers are no finite (n, classes) logits.
        """
        self._score = None

        def measure(clone: nn.Module) -> CloneScore:
            # both of one clone, which an isolated attacker hands over anew at each look
            self._score = self._referee.score_checkpoint(clone)
            return self._referee.score(clone)

        return self._scored(measure)

    def _scored(self, measure: Callable[[nn.Module], CloneScore]) -> CloneScore | None:
        """Measure the attacker's clone; None without one."""
        clone = self._attacker.clone
        if clone is None:
            return None
        try:
            if not isinstance(clone, nn.Module):
                raise PlayerError(f"expected a torch module as clone, got {type(clone).__name__}")
            with self._game.suspended():  # a clone that asks meanwhile gets no answer
                self._scored_untrained = self._untrained(clone)
                return measure(clone)
        except (PlayerError, MemoryError, torch.OutOfMemoryError):
            raise
        except BaseException as fault:  # whatever its code raises, `BudgetExhausted` too
            if STOP.caused(fault):
                raise
            raise _CloneError(
                f"the clone fails at {self._game.used} queries: {one_line(fault)}"
            ) from fault


def _without_costs(row: RoundRow) -> RoundRow:
    """Leave out what is not known of a victim elsewhere."""
    return replace(
        row,
        attack_exits=None,
        benign_exits=None,
        attack_macs=None,
        benign_macs=None,
        attack_seconds=None,
        benign_seconds=None,
    )


class _CloneError(PlayerError):
    """The code of a clone raised."""


def _bucket_row(
    bucket: int, before: Tally, after: Tally, countermeasure: Mapping[str, object]
) -> RoundRow:
    """Sum up what lies between two readings of the counters."""
    return RoundRow(
        bucket=bucket,
        first_round=before.rounds,
        rounds=after.rounds - before.rounds,
        attack_answered=after.attack.answered - before.attack.answered,
        benign_answered=after.benign.answered - before.benign.answered,
        queries_used=after.used,
        attack_exits=_exits_between(before.attack, after.attack),
        benign_exits=_exits_between(before.benign, after.benign),
        attack_macs=round(after.attack.macs - before.attack.macs),
        benign_macs=round(after.benign.macs - before.benign.macs),
        attack_seconds=after.attack.seconds - before.attack.seconds,
        benign_seconds=after.benign.seconds - before.benign.seconds,
        benign_correct=after.benign_correct - before.benign_correct,
        query_digest=after.query_digest,
        answer_digest=after.answer_digest,
        countermeasure=countermeasure,
    )


def _exits_between(before: SideTally, after: SideTally) -> Exits:
    """Count answers by defence and exit between two readings."""
    taken = tuple(tuple(-count for count in row) for row in before.exits)
    return added_exits(after.exits, taken)
