"""Checks what players hand over for the log, where they hand it over."""

import json
import operator
from collections.abc import Mapping
from typing import Any, cast

from arena.log.jsontext import to_json
from envs.errors import PlayerError, one_line, shortened

NAME_CHARACTERS = 200
"""Of a note's kind, and of the name of a reported number."""

MESSAGE_CHARACTERS = 10_000
"""Of a note's message; a longer one is shortened."""

NUMBERS = 1000
"""In one report."""

LARGEST = 2**63 - 1
"""Of whole numbers; databases hold no larger ones."""

DATA_BYTES = 2**20
"""Of a note's data, as JSON."""

CARRIED_BYTES = 2**24
"""Of what a defender takes to its next episode, as JSON."""

NOTES = 10_000
"""Of an attacker, and of a defender, in one episode."""


def checked_name(text: object, what: str) -> str:
    """Return a name that is short enough to tell things apart by.

    Raises:
        PlayerError: it is longer than `NAME_CHARACTERS`, or no text; see `checked_text`.
    """
    name = checked_text(text, what)
    if len(name) > NAME_CHARACTERS:
        raise PlayerError(
            f"{what}: expected at most {NAME_CHARACTERS} characters, got {len(name)}: "
            f"{name[:40]!a}..."
        )
    return name


def checked_message(text: object, what: str) -> str:
    """Return a message, shortened where it is longer than `MESSAGE_CHARACTERS`.

    Raises:
        PlayerError: see `checked_text`.
    """
    return shortened(checked_text(text, what), MESSAGE_CHARACTERS)


def checked_text(text: object, what: str) -> str:
    """Return a text that every database takes.

    Raises:
        PlayerError: it is no text, or holds characters that UTF-8 cannot write.
    """
    if not isinstance(text, str):
        raise PlayerError(f"{what}: expected a text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PlayerError(
            f"{what}: expected a text that UTF-8 can write, got {ascii(text)[:80]}; "
            f"pass it through ascii() first"
        ) from error
    return str(text)


def checked_data(
    data: Mapping[str, object], what: str, *, most: int = DATA_BYTES
) -> dict[str, Any]:
    """Return a copy in JSON values, which the player cannot change later (hence `Any`).

    Args:
        data: as the player hands it over.
        what: names it in errors.
        most: bytes that it may take as JSON.

    Raises:
        PlayerError: a value has no form in JSON, or there is more.
    """
    if not isinstance(data, Mapping):
        raise PlayerError(f"{what}: expected a mapping, got {type(data).__name__}")
    try:
        written = to_json(dict(data))
    except Exception as error:
        raise PlayerError(f"{what}: expected JSON values, got {one_line(error)[:160]}") from error
    if (size := len(checked_text(written, what).encode())) > most:
        raise PlayerError(f"{what}: expected data of at most {most} bytes as JSON, got {size}")
    return cast(dict[str, Any], json.loads(written))


def checked_count(value: object, what: str) -> int:
    """Return a whole number that every database takes.

    Raises:
        PlayerError: it is none from 0 to `LARGEST`.
    """
    try:
        count = operator.index(value)  # type: ignore[arg-type]  # a player's
    except TypeError as error:
        got = type(value).__name__
        raise PlayerError(f"{what}: expected a whole number, got {got}") from error
    if not 0 <= count <= LARGEST:
        raise PlayerError(f"{what}: expected a whole number from 0 to 2**63 - 1, got another")
    return count


def checked_numbers(values: Mapping[str, object], what: str) -> dict[str, float]:
    """Return numbers as floats, by name.

    Raises:
        PlayerError: one of them is no number, or there are more than `NUMBERS`.
    """
    if len(values) > NUMBERS:
        raise PlayerError(f"{what}: expected at most {NUMBERS} numbers, got {len(values)}")
    numbers = {}
    for name, value in values.items():
        if isinstance(value, str | bytes):
            raise PlayerError(f"{what}: expected numbers, got {name}={ascii(value)[:80]}")
        try:
            numbers[checked_name(name, f"{what}: name")] = float(value)  # type: ignore[arg-type]
        except PlayerError:
            raise
        except Exception as error:
            kind = type(value).__name__
            raise PlayerError(f"{what}: expected numbers, got {name} of type {kind}") from error
    return numbers
