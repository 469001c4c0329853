"""Ends an episode after its attack: scores the clone, measures the service, closes the row."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from torch import nn

from agents.base import Attacker
from arena.evaluation.architecture import score_inferences
from arena.evaluation.referee import CloneScore
from arena.log.outcome import OutcomeRow
from arena.log.writer import EpisodeWriter
from arena.recording.tape import Tape
from arena.runner.clone_file import write_clone
from arena.runner.clone_metrics import clone_metrics
from arena.runner.events import EpisodeEvents, Fault
from arena.runner.game_setup import GameSetup
from arena.runner.recorder import Recorder
from arena.scenario import EpisodePlan


@dataclass(slots=True, eq=False)
class Finish:
    """The steps after an attack, each of which may fail by a player's fault.

    Args:
        plan: what was played.
        parts: the game's.
        attacker: who holds the clone.
        first_clone: makes a clone as the attacker got it.
        recorder: of the episode.
        writer: of its rows.
        events: of the episode.
        tape: keeps files.
        tell: shows a line to the user.

    Attributes:
        outcome: what was measured so far.
        score: of the clone; None before it was scored, or where there is none.
        first_fault: of the attack, or of the first step that failed.
    """

    plan: EpisodePlan
    parts: GameSetup
    attacker: Attacker
    first_clone: Callable[[], nn.Module]
    recorder: Recorder
    writer: EpisodeWriter
    events: EpisodeEvents
    tape: Tape
    tell: Callable[[str], None]
    outcome: OutcomeRow
    score: CloneScore | None = None
    first_fault: Fault | None = None

    def close(self, fault: Fault | None) -> None:
        """Measure what there is, whatever happened, and close the row.

        An episode is a success only if no step failed, and an error by the first that did.

        Args:
            fault: of the attack.

        Raises:
            KeyboardInterrupt: after the row was closed.
            LogError: the log cannot be written.
        """
        steps = (
            self._score_clone,
            self._measure,
            self._take_metrics,
            self._write_inferences,
            self._write_defender,
        )
        faults = [one for one in (fault, *map(self.events.fault_of, steps)) if one is not None]
        self.first_fault = faults[0] if faults else None
        self.recorder.keep_files()
        if self.score is not None:
            self._write_clone()
        self.events.restore_process()
        self.events.close_row(self.outcome, faults)
        for one in faults:
            if one.interrupt is not None:
                raise one.interrupt

    def _score_clone(self) -> None:
        self.score = self.recorder.score_clone()

    def _measure(self) -> None:
        parts, writer = self.parts, self.writer
        parts.write_accounts(writer)
        tally = self.recorder.close()
        parts.tell_refusals(writer, tally)
        parts.tell_losses(writer, answered=tally.attack.answered)
        self.outcome = parts.outcome(self.score, tally)  # kept where the defender's code fails now
        self.outcome = parts.with_service(self.outcome)

    def _take_metrics(self) -> None:
        clone = self.attacker.clone if self.score is not None and self.plan.metrics else None
        if clone is None:
            return
        taken = clone_metrics(
            self.plan.metrics,
            lambda metric: self.parts.handed(clone, metric.name),
            self.writer,
            used=self.parts.game.used,
            tell=self.tell,
        )
        self.outcome = replace(self.outcome, clone_metrics=taken)

    def _write_inferences(self) -> None:
        truth = self.parts.truth(self.plan)
        score_inferences(self.attacker.inferred, self.writer, truth=truth)

    def _write_defender(self) -> None:
        self.events.write_defender(self.parts.defender, self.recorder.used_at)

    def _write_clone(self) -> None:
        write_clone(
            self.plan,
            lambda: self.attacker.clone,
            self.first_clone,
            self.writer,
            where=self.tape.where,
            threat=self.parts.game.threat,
            used=self.parts.game.used,
            tell=self.tell,
        )
