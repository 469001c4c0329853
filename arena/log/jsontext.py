"""Write values as JSON that every reader accepts: strict, compact, without NaN."""

import json
import math
from collections.abc import Mapping
from datetime import datetime
from json.scanner import make_scanner
from pathlib import PurePath


def _plain(value: object) -> object:
    """Turn what json does not know into what it does, or say what came.

    Raises:
        TypeError: the value has no plain form.
    """
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    for method in ("tolist", "item"):  # NumPy scalars and arrays, without importing NumPy
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"expected a plain value for the log, got {type(value).__name__}: {value!r}")


# One encoder for all calls: json.dumps with options builds a new one per value, at twice the time.
_ENCODER = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_plain
)


_SORTED = json.JSONEncoder(allow_nan=False, sort_keys=True, separators=(",", ":"), default=_plain)


def _finite(value: object) -> object:
    """Replace NaN and the infinities, at any depth, by null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, str | int | None):
        return value
    return _finite(_plain(value))


def to_json(value: object) -> str:
    """Write a value as one line of strict JSON; NaN and infinities become null.

    Raises:
        TypeError: the value, or one inside it, has no plain form.
    """
    # Counts per exit are by far the most frequent; a list of whole numbers prints as its JSON.
    if type(value) is tuple and set(map(type, value)) <= {int}:
        return str(list(value))
    try:
        return _ENCODER.encode(value)
    except ValueError:  # NaN: PostgreSQL and SQLite's own JSON functions refuse it
        return _ENCODER.encode(_finite(value))


# the stubs take the scanner's context for a scanner
_scan = make_scanner(json.JSONDecoder())  # type: ignore[arg-type]


def from_json(text: str | bytes) -> object:
    """Read JSON as `json.loads` does; a text without space around it comes in half the time.

    Raises:
        ValueError: it is no JSON.
    """
    if isinstance(text, str):
        try:  # a with block takes as long as the scan
            value, end = _scan(text, 0)
            if end == len(text):
                return value
        except (StopIteration, ValueError):
            pass  # json.loads says better what is wrong
    return json.loads(text)


def canonical_json(value: object) -> str:
    """Write a value as its one text: strict JSON in ASCII, keys sorted; NaN becomes null.

    Raises:
        TypeError: the value, or one inside it, has no plain form.
    """
    try:
        return _SORTED.encode(value)
    except ValueError:
        return _SORTED.encode(_finite(value))
