"""Checks what players hand over for the log, where they hand it over."""

import json
from collections.abc import Mapping
from typing import Any, cast

from arena.log.jsontext import to_json
from envs.errors import PlayerError, one_line


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


def checked_data(data: Mapping[str, object], what: str) -> dict[str, Any]:
    """Return a copy in JSON values, which the player cannot change later (hence `Any`).

    Raises:
        PlayerError: a value has no form in JSON.
    """
    if not isinstance(data, Mapping):
        raise PlayerError(f"{what}: expected a mapping, got {type(data).__name__}")
    try:
        written = to_json(dict(data))
    except Exception as error:
        raise PlayerError(f"{what}: expected JSON values, got {one_line(error)[:160]}") from error
    return cast(dict[str, Any], json.loads(checked_text(written, what)))


def checked_numbers(values: Mapping[str, object], what: str) -> dict[str, float]:
    """Return numbers as floats, by name.

    Raises:
        PlayerError: one of them is no number.
    """
    numbers = {}
    for name, value in values.items():
        if isinstance(value, str | bytes):
            raise PlayerError(f"{what}: expected numbers, got {name}={ascii(value)[:80]}")
        try:
            numbers[checked_text(name, what)] = float(value)  # type: ignore[arg-type]
        except PlayerError:
            raise
        except Exception as error:
            kind = type(value).__name__
            raise PlayerError(f"{what}: expected numbers, got {name} of type {kind}") from error
    return numbers
