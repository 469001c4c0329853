"""Writes an episode's events: what players say, how their code fails, and how the episode ends."""

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch

from agents.base import Defender
from arena.isolation.attacker import ChildError
from arena.log.outcome import OutcomeRow
from arena.log.player_values import (
    NOTES,
    checked_data,
    checked_message,
)
from arena.log.rows import Ending
from arena.log.writer import EpisodeWriter
from arena.runner.carry_over import CARRIED_STATE
from arena.runner.defender_words import checked_carried_state, checked_notes
from arena.runner.note_kinds import attackers_kind
from arena.runner.stopping import STOP
from arena.system.process_state import ProcessState
from envs.errors import LogError, PlayerError, VictimUnreachable, one_line, shortened
from envs.game.extraction_game import ExtractionGame

TRACEBACK_CHARACTERS = 20_000
"""Of a traceback in the log; the middle of a longer one is left out."""

UNLUCKY = (LogError, OSError, MemoryError, torch.OutOfMemoryError, VictimUnreachable)
"""Faults that are not the players'."""


class Fault(NamedTuple):
    """What ended a step of an episode.

    Attributes:
        line: describes it.
        unlucky: it is not the players'.
        interrupt: of the user, to be raised again once the row is closed.
    """

    line: str
    unlucky: bool = False
    interrupt: KeyboardInterrupt | None = None


class EpisodeEvents:
    """The events of one episode.

    Args:
        writer: of the episode's rows.
        game: tells how far it has come.
        before: the process before players came.
    """

    def __init__(self, writer: EpisodeWriter, game: ExtractionGame, before: ProcessState) -> None:
        self._writer, self._game, self._before = writer, game, before
        self._told: set[str] = set()
        self._notes = 0

    def say(self, kind: object, message: object, data: Mapping[str, object]) -> None:
        """Write what an attacker says.

        Raises:
            PlayerError: no log can hold it, it has a kind of others, or it is the note after
                `NOTES` others.
        """
        kind = attackers_kind(kind)
        what = f"kit.note {kind!a}"
        message, values = checked_message(message, what), checked_data(data, what)
        self._notes += 1
        if self._notes > NOTES:
            raise PlayerError(f"kit.note: more than {NOTES} notes")
        self._writer.event(kind, message, queries_used=self._game.used, data=values)

    def fault_of(self, step: Callable[[], None]) -> Fault | None:
        """Run a step in which players' code runs; return how it failed, None if it did not."""
        try:
            step()
        except BaseException as fault:
            if STOP.caused(fault):
                return Fault("interrupted by the user", interrupt=fault)
            # a player's own SystemExit or KeyboardInterrupt ends its episode, not the match
            line = one_line(fault)
            trace = fault.traceback if isinstance(fault, ChildError) else written_traceback()
            self._writer.event("error", line, queries_used=self._game.used, traceback=trace)
            return Fault(line, unlucky=isinstance(fault, UNLUCKY))
        return None

    def restore_process(self) -> None:
        """Set the process back to what it was before the players came, and note what they left."""
        found = ProcessState.capture().settings_changed_since(self._before)
        self._before.restore()
        changed = [one for one in found if one not in self._told]  # a thread goes on
        self._told.update(changed)
        if changed:
            self._writer.event(
                "process-state",
                f"players left changed, and the arena set back what can be: {', '.join(changed)}",
                queries_used=self._game.used,
                changed=changed,
            )

    def write_defender(self, defender: Defender, used_at: Callable[[int], int]) -> None:
        """Write down what the defender noticed, and what its next episode should know.

        Args:
            defender: whose notes.
            used_at: tells how much of the budget was used after so many answers to everybody.
        """
        for note in checked_notes(defender):
            data = dict(note.data)
            if type(client := data.get("client")) is int:
                data["attacker"] = client in self._game.attacker_clients
            self._writer.event(
                note.kind,
                note.message,
                queries_used=used_at(note.answered),
                answered=note.answered,
                data=data,
            )
        if carried := checked_carried_state(defender):
            self._writer.event(
                CARRIED_STATE,
                "what the defender takes to its next episode",
                carried_state=carried,
            )

    def close_row(self, outcome: OutcomeRow, faults: Sequence[Fault]) -> None:
        """Close the row: a success without faults, else what the first fault makes of it."""
        status: Ending = "error"
        if not faults:
            status = "success"
        elif faults[0].interrupt is not None:
            status = "cancelled"
        error = faults[0].line if faults else None
        try:
            self._writer.finish(status, outcome, error=error)
        except LogError:
            raise
        except Exception as fault:  # a row that no database takes
            self._writer.drop_buffered()
            line = f"the last rows cannot be written: {one_line(fault)}"
            self._writer.event("error", line, traceback=written_traceback())
            used = OutcomeRow(queries_used=self._game.used)
            self._writer.finish("error", used, error=error or line)


def written_traceback() -> str:
    """Write the traceback of the fault being handled, in characters that every database takes."""
    written = shortened(traceback.format_exc(), TRACEBACK_CHARACTERS)
    return written.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
