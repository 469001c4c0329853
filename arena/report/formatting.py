"""Writes numbers, durations, intervals and values for people: in terminals, reports and plots.

Imports nothing heavy, because the command line loads it for `arena --help`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from arena.analysis.intervals import Interval
    from arena.analysis.metrics import Measure

MINUS = "\N{MINUS SIGN}"
_MACS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1, ""))
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
UNKNOWN = "unknown"
ABSENT = "-"
"""Stands in a table for a number that was not measured."""


class Cell(NamedTuple):
    """One number of a table: the mean, the interval under it, and the seeds if fewer than the row.

    `mean` is "" where nothing was measured.
    """

    mean: str
    interval: str = ""
    note: str = ""


def number(value: float, unit: str) -> str:
    """Write a value in its unit: "61.2%", "+1.3", "0.120", "4.2 M", "13 ms", "6,900"."""
    text = {
        "share": lambda: f"{100 * value:.1f}%",
        "points": lambda: f"{100 * value:.1f}",
        "l1": lambda: f"{value:.3f}",
        "macs": lambda: _scaled(value, _MACS),
        "seconds": lambda: duration_text(value),
        "count": lambda: digits(value),
        "price": lambda: digits(value),
        "number": lambda: digits(value),
    }[unit]()
    # no minus before a zero
    return re.sub(r"^-(?=0(\.0*)?%?$)", "", text).replace("-", MINUS)


def count_text(count: int | None) -> str:
    """Write a count with commas: "20,000"."""
    return ABSENT if count is None else f"{count:,}"


def percent(share: float | None) -> str:
    """Write a share as percent with one decimal and without the sign: "61.2"."""
    return ABSENT if share is None else f"{100 * share:.1f}".replace("-0.0", "0.0")


def digits(value: float) -> str:
    """Write a number with three digits that count, or whole with commas: "0.0123", "20,000"."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def duration_text(seconds: float | None) -> str:
    """Write a duration, to three digits below a minute: "13.4 ms", "3 min 5 s", "2 h 10 min"."""
    if seconds is None:
        return ABSENT
    if seconds < 0:
        return f"-{duration_text(-seconds)}"
    if seconds < 59.95:
        return _scaled(seconds, ((1, " s"), (1e-3, " ms"), (1e-6, " µs"))) if seconds else "0 s"
    if round(seconds) < 3600:
        return "{} min {} s".format(*divmod(round(seconds), 60))
    return "{} h {} min".format(*divmod(round(seconds / 60), 60))


def size_text(size: int) -> str:
    """Write a number of bytes: "512 B", "1.5 MiB"."""
    amount, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1023.95:
            break
        amount, unit = amount / 1024, larger
    return f"{size} B" if unit == "B" else f"{amount:,.1f} {unit}"


def cell(score: "Interval | None", measure: "Measure", *, seeds: int) -> Cell:
    """Write a score for a table row of so many seeds."""
    return interval_cell(score, measure.unit, seeds=seeds)


def interval_cell(score: "Interval | None", unit: str, *, seeds: int) -> Cell:
    """Write a mean in its unit for a table row of so many seeds."""
    if score is None:
        return Cell("")
    note = "" if score.n == seeds else f"n={score.n}"
    mean = number(score.mean, unit)
    if score.low is None or score.high is None:
        return Cell(mean, "", note)
    if score.is_point:
        return Cell(mean, "all alike", note)
    if score.alike:
        note = f"{note}, seeds alike".removeprefix(", ")
    low, high = (number(end, unit).removesuffix("%") for end in (score.low, score.high))
    return Cell(mean, f"{low} to {high}", note)


def with_interval(score: "Interval", unit: str = "share") -> str:
    """Write a mean and what is known of its reach, for a sentence."""
    return f"{number(score.mean, unit)} ({reach(score, unit)})"


def reach(score: "Interval", unit: str = "share") -> str:
    """Write how far a mean may be off: "95% interval 41.2% to 48.9%, 3 seeds"."""
    if score.low is None or score.high is None:
        return "one seed, no interval"
    if score.is_point:
        return f"alike on {score.n} seeds"
    low, high = number(score.low, unit), number(score.high, unit)
    seeds = f"alike on {score.n} seeds" if score.alike else f"{score.n} seeds"
    return f"{100 * score.confidence:g}% interval {low} to {high}, {seeds}"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: "1 seed", "3 seeds"."""
    return f"{count_text(count)} {noun}{'' if count == 1 else 's'}"


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
    """Shorten every absolute path to its last part, because reports leave the machine."""
    for pattern in _PATHS:
        text = re.sub(pattern, rf"\g<before>{ELLIPSIS}/", text)
    return text


_PATHS = (
    # in quotes, where blanks belong to the path
    r"""(?<=["'])(?P<before>)(?:[A-Za-z]:)?[/\\][^"'\n]*[/\\](?=[^"'/\\\n]*["'])""",
    r"(?P<before>\b(?:file|sqlite)[+\w]*:/{2,3})(?:[A-Za-z]:)?/(?:[^\s/]+/)+",
    r"(?P<before>(?<![\w.~:/\\…-]))(?:/[^\s/\"'<>|,;()\[\]{}]+)+/",
    r"(?P<before>(?<!\w))[A-Za-z]:\\+(?:[^\s\\\"']+\\+)*",
)


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    """Write a value in the largest unit that leaves a digit before the point."""
    for factor, name in units:
        if abs(value) >= 0.9995 * factor:
            return digits(value / factor) + name
    factor, name = units[-1]
    return digits(value / factor) + name
