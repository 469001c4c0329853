"""Asks a defender what it noticed and what it carries on, and checks what it says."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from agents.base import Defender, Note
from arena.log.player_values import (
    CARRIED_BYTES,
    NOTES,
    checked_count,
    checked_data,
    checked_message,
)
from arena.runner.note_kinds import defenders_kind
from envs.errors import PlayerError


def checked_notes(defender: Defender) -> list[Note]:
    """Return what a defender noticed, as a log can hold it.

    Raises:
        PlayerError: it returns something else, or too much.
    """
    found: object = defender.notes()
    if not isinstance(found, Iterable):
        raise PlayerError(f"notes(): expected a list of Note, got {type(found).__name__}")
    notes = list(islice(found, NOTES + 1))
    if len(notes) > NOTES:
        raise PlayerError(f"notes(): more than {NOTES} notes")
    return [_checked(note) for note in notes]


def _checked(note: object) -> Note:
    if not isinstance(note, Note):
        raise PlayerError(f"notes(): expected a list of Note, got one of {type(note).__name__}")
    kind = defenders_kind(note.kind)
    what = f"notes() {kind!a}"
    return replace(
        note,
        kind=kind,
        message=checked_message(note.message, what),
        answered=checked_count(note.answered, f"{what}: answered"),
        data=checked_data(note.data, what),
    )


def checked_carried_state(defender: Defender) -> dict[str, Any]:
    """Return what a defender takes to its next episode, in JSON values (hence `Any`).

    Raises:
        PlayerError: it has no form in JSON, or is too large.
    """
    return checked_data(defender.carried_state(), "carried_state()", most=CARRIED_BYTES)
