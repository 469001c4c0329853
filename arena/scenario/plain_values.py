"""Refuses values that no log, file name or tensor can hold, before a scenario is validated.

TOML and the command line bring NaN, whole numbers of any length, dates, and texts with NUL
characters or parts of other encodings. One place refuses them, whatever key they stand under.
"""

import math
from collections.abc import Iterator, Mapping

from arena.registry.messages import Path, dotted, named, value_text

_WIDEST = 2**63
_LONGEST = 10_000  # characters of a text; a description of three pages


def faults_of(raw: Mapping[str, object]) -> list[str]:
    """Word every such value of a table, one line each, with its path."""
    return [f"{dotted(named(path, raw))}: {fault}" for path, fault in _faults(raw, ())]


def _faults(value: object, path: tuple[str | int, ...]) -> Iterator[tuple[Path, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if fault := _text_fault(key):
                yield path, f"a key: {fault}"
            yield from _faults(item, (*path, key))
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _faults(item, (*path, number))
    elif fault := _fault(value):
        yield path, fault


def _fault(value: object) -> str:
    if isinstance(value, str):
        return _text_fault(value)
    if isinstance(value, int) and not -_WIDEST <= value < _WIDEST:
        return f"expected a whole number of 64 bits, below 9.2e18, got {value_text(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"expected a finite number, got {value}"
    if not isinstance(value, int | float | None):
        return f"expected a text, a number, true, false, a list or a table, got {value_text(value)}"
    return ""


def _text_fault(text: str) -> str:
    if "\0" in text:
        return f"expected a text without NUL characters, got {value_text(text)}"
    if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
        return f"expected a text in UTF-8, got {value_text(text)}"
    if len(text) > _LONGEST:
        return f"expected a text of at most {_LONGEST} characters, got {len(text)}"
    return ""
