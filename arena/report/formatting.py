"""Writes numbers, intervals and values the way the report shows them."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from arena.analysis.metrics import Measure
from arena.analysis.statistics import Interval

MINUS = "\N{MINUS SIGN}"
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
UNKNOWN = "unknown"


class Cell(NamedTuple):
    """One number of a table: the mean, the interval under it, and the seeds if fewer than the row.

    `mean` is "" where nothing was measured.
    """

    mean: str
    interval: str = ""
    note: str = ""


def number(value: float, unit: str) -> str:
    """Write a value in its unit: "61.2%", "+1.3", "0.120", "4.2 M", "13 ms"."""
    text = {
        "share": lambda: f"{100 * value:.1f}%",
        "points": lambda: f"{100 * value:.1f}",
        "l1": lambda: f"{value:.3f}",
        "macs": lambda: _scaled(value, ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"))),
        "seconds": lambda: duration(value),
    }[unit]()
    # no minus before a zero
    return re.sub(r"^-(?=0(\.0*)?%?$)", "", text).replace("-", MINUS)


def duration(seconds: float) -> str:
    """Write seconds in a unit that leaves three digits: "13.4 ms", "2 h 5 min"."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    if seconds >= 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return _scaled(seconds, ((1, " s"), (1e-3, " ms"), (1e-6, " µs")))


def cell(score: Interval | None, measure: Measure, *, seeds: int) -> Cell:
    """Write a score for a table row of so many seeds."""
    if score is None:
        return Cell("")
    note = "" if score.n == seeds else f"n={score.n}"
    mean = number(score.mean, measure.unit)
    if score.low is None or score.high is None:
        return Cell(mean, "", note)
    if score.high - score.low < 1e-12:
        return Cell(mean, "all alike", note)
    low, high = (number(end, measure.unit).removesuffix("%") for end in (score.low, score.high))
    return Cell(mean, f"{low} to {high}", note)


def with_interval(score: Interval, unit: str = "share") -> str:
    """Write a mean and what is known of its reach, for a sentence."""
    return f"{number(score.mean, unit)} ({reach(score, unit)})"


def reach(score: Interval, unit: str = "share") -> str:
    """Write how far a mean may be off: "95% interval 41.2% to 48.9%, 3 seeds"."""
    if score.low is None or score.high is None:
        return "one seed, no interval"
    if score.high - score.low < 1e-12:
        return f"alike on {score.n} seeds"
    low, high = number(score.low, unit), number(score.high, unit)
    return f"{100 * score.confidence:g}% interval {low} to {high}, {score.n} seeds"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: "1 seed", "3 seeds"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(words: Sequence[str]) -> str:
    """Write a list as English does: "a, b and c"."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def plain(value: object) -> str:
    """Write any JSON value for a table cell."""
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(plain, value)) or "none"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, Mapping) else str(value)


def without_machine_paths(text: str) -> str:
    """Leave of every absolute path its last part, so that a report can be handed on."""
    for pattern in _PATHS:
        text = pattern.sub(rf"\g<before>{ELLIPSIS}/", text)
    return text


_PATHS = (
    # in quotes, where blanks belong to the path
    re.compile(r"""(?<=["'])(?P<before>)(?:[A-Za-z]:)?[/\\][^"'\n]*[/\\](?=[^"'/\\\n]*["'])"""),
    re.compile(r"(?P<before>\b(?:file|sqlite)[+\w]*:/{2,3})(?:[A-Za-z]:)?/(?:[^\s/]+/)+"),
    re.compile(r"(?P<before>(?<![\w.~:/\\…-]))(?:/[^\s/\"'<>|,;()\[\]{}]+)+/"),
    re.compile(r"(?P<before>(?<!\w))[A-Za-z]:\\+(?:[^\s\\\"']+\\+)*"),
)


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    for factor, name in units:
        if abs(value) >= factor:
            return f"{value / factor:.3g}{name}"
    factor, name = units[-1]
    return f"{value:.3g}" if factor >= 1 else f"{value / factor:.3g}{name}"
