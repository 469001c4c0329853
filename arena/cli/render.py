"""Writes results to a terminal, a pipe or a program.

A terminal gets tables with lines and colours. A pipe, and a terminal that cannot draw, gets the
same columns as plain text, as wide as they need to be, without a control character. A program gets
JSON.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from arena.cli.common import is_live
from arena.report.formatting import ABSENT, count_text, duration_text, number, percent
from envs.errors import printable

if TYPE_CHECKING:
    from rich.console import Console

    from arena.analysis.intervals import Interval
    from arena.analysis.scoreboard import ScoreRow

# `Any` in this file: an episode of the log, whole or a part of its columns.

Row = Sequence[str]

LONG = 500
"""Rows of the longest table that is drawn with lines and colours."""


def write_table(
    console: "Console",
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    right: Sequence[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Write a table.

    One that is longer than `LONG` is written plainly to a terminal too: drawing it takes seconds.

    Args:
        console: where to.
        columns: their headings.
        rows: a cell for each column.
        right: columns that are aligned to the right.
        optional: columns that a terminal too narrow for all leaves out, the first ones first.
    """
    if is_live(console) and len(rows) <= LONG:
        _write_rich(console, columns, rows, right=right, optional=optional)
        return
    lines = [tuple(map(_plain, row)) for row in (columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    sides = ["" if name in right else "-" for name in columns]
    form = "  ".join(f"%{side}{width}s" for side, width in zip(sides, widths, strict=True))
    console.file.write("".join((form % line).rstrip() + "\n" for line in lines))


def _write_rich(
    console: "Console",
    columns: Sequence[str],
    rows: Sequence[Row],
    *,
    right: Sequence[str],
    optional: Sequence[str],
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [tuple(map(printable, row)) for row in (columns, *rows)]
    by_column = list(zip(*cells, strict=True))
    kept = list(range(len(columns)))
    least = [
        _least_width(column, whole=name in right)
        for name, column in zip(columns, by_column, strict=True)
    ]
    left_out: list[str] = []

    def spare() -> int:
        """Count the characters that are left: three lie between columns, one at each side."""
        return console.width + 1 - sum(least[place] + 3 for place in kept)

    if not optional and spare() < 0:  # an interval on two lines is better than half a name
        least = [_least_width(column, whole=False) for column in by_column]

    for name in optional:
        if spare() >= 0:
            break
        kept.remove(max(place for place in kept if columns[place] == name))
        left_out.append(name)
    fits = spare() >= 0
    widths = _shared_out(least, [max(map(len, column)) for column in by_column], kept, spare())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for place in kept:
        side: Literal["left", "right"] = "right" if columns[place] in right else "left"
        table.add_column(Text(cells[0][place]), justify=side, width=widths[place] if fits else None)
    for row in cells[1:]:
        table.add_row(*(Text(row[place]) for place in kept))
    console.print(table)
    if left_out:
        write_line(console, f"too narrow for: {', '.join(left_out)} (--json has all)")


def _shared_out(
    least: Sequence[int], most: Sequence[int], kept: Sequence[int], spare: int
) -> list[int]:
    """Widen the columns that are kept by what is left, the narrowest that wants more first."""
    widths = list(least)
    for _ in range(spare):
        wanting = [place for place in kept if widths[place] < most[place]]
        if not wanting:
            break
        widths[min(wanting, key=widths.__getitem__)] += 1
    return widths


def _least_width(column: Sequence[str], *, whole: bool) -> int:
    """Measure what a column needs so that no word of it is cut, and no number is broken."""
    heading, *cells = column
    words = [word for text in (heading, *(() if whole else cells)) for word in text.split()]
    return max(map(len, [*words, *(cells if whole else ())]), default=0)


def write_line(console: "Console", text: str = "", *, to_copy: bool = False) -> None:
    """Write one line as it is: no markup, no highlighting, no wrapping in a pipe.

    A terminal gets it broken between words, unless that would break a word or something `to_copy`.
    """
    text = printable(text)
    words = not to_copy and max(map(len, text.split()), default=0) <= console.width
    whole = not (words and console.is_terminal)
    console.print(text, markup=False, highlight=False, soft_wrap=whole)


def write_json(value: object) -> None:
    """Write a value to standard output as JSON and nothing else."""
    print(_escaped(json.dumps(value, indent=2, ensure_ascii=False, default=_to_json)))


def write_json_lines(lines: Iterable[str]) -> None:
    """Write JSON texts as one array, one on each line."""
    rows = ",\n".join(map(_escaped, lines))
    print(f"[\n{rows}\n]" if rows else "[]")


def _escaped(text: str) -> str:
    """Write as escapes what JSON may hold as it is, and a terminal or UTF-8 may not."""
    if text.isascii() and "\x7f" not in text:
        return text
    return re.sub("[\x7f-\x9f\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _to_json(value: object) -> object:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    return str(value) if isinstance(value, Path) else list(value)  # type: ignore[call-overload]


def _plain(cell: str) -> str:
    """Keep a cell on its line, and control characters of a player's text off the terminal."""
    if cell.isprintable():
        return cell
    return "".join(char if char.isprintable() else " " for char in cell)


def percent_interval(score: "Interval | None") -> str:
    """Write a share with the ends of its interval: "71.3 (69.2 to 73.4)"; one value has none."""
    return _with_interval(score, "share")


def _with_interval(score: "Interval | None", unit: str) -> str:
    """Write a mean likewise, a share in percent; of values that are all alike it says so."""
    if score is None:
        return ABSENT
    write = percent if unit == "share" else partial(number, unit=unit)
    if score.low is None or score.high is None:
        return write(score.mean)
    if score.is_point:
        return f"{write(score.mean)} (alike)"
    return f"{write(score.mean)} ({write(score.low)} to {write(score.high)})"


def write_scoreboard(console: "Console", rows: Sequence["ScoreRow"]) -> None:
    """Write the scoreboard: a row for each attacker against each defender."""
    from arena.analysis.metrics import chance_level, measures_of

    measures = measures_of(one for row in rows for one in row.episodes.values())
    shown = [
        name
        for name in measures
        if measures[name].metric.short and any(name in row.scores for row in rows)
    ]
    settings = any(row.game.setting for row in rows)
    columns = ["attacker", "defender", *(measures[name].metric.short for name in shown), "seeds"]
    cells = [
        (
            *((row.game.setting,) if settings else ()),
            row.attack,
            row.versus,
            *(_with_interval(row.scores.get(name), measures[name].unit) for name in shown),
            str(row.n),
        )
        for row in rows
    ]
    if settings:
        columns.insert(0, "setting")
    numbers = columns[-len(shown) - 1 :]
    write_table(console, columns, cells, right=numbers, optional=numbers[:0:-1])
    if any(score.known for row in rows for score in row.scores.values()):
        write_line(console, "mean (95 % interval over seeds and test images)")
    guesses = {chance_level(next(iter(row.episodes.values()))) for row in rows} - {None}
    if guesses:
        told = " or ".join(percent(guess) for guess in sorted(filter(None, guesses)))
        write_line(console, f"a clone that guesses gets {told} %")


def fate(row: Any) -> str:
    """Describe how an episode ended, and whether it is a what-if."""
    return row.status if row.kind == "play" else f"{row.status} ({row.kind})"


EPISODE_COLUMNS = (
    "id",
    "scenario",
    "attacker",
    "defender",
    "seed",
    "status",
    "queries",
    "clone %",
    "served %",
    "attack MACs %",
    "time",
    "started",
)
_OPTIONAL = ("started", "time", "attack MACs %", "served %", "scenario", "queries", "status")
_RIGHT = ("seed", "queries", "clone %", "served %", "attack MACs %", "time")


LISTED = ("id", "scenario_name", "attacker", "defender", "seed", "status", "kind", "queries_used",
          "clone_accuracy", "served_accuracy", "attack_compute_share", "wall_seconds",
          "started")  # fmt: skip
"""Columns of the log that a list of episodes shows."""


def write_episodes(console: "Console", episodes: Iterable[Any]) -> None:
    """Write a list of episodes, one line for each: rows that have the columns `LISTED`."""
    rows = [
        (
            row.id,
            row.scenario_name,
            row.attacker,
            row.defender,
            str(row.seed),
            fate(row),
            count_text(row.queries_used),
            percent(row.clone_accuracy),
            percent(row.served_accuracy),
            percent(row.attack_compute_share),
            duration_text(row.wall_seconds),
            f"{row.started:%Y-%m-%d %H:%M}",
        )
        for row in episodes
    ]
    write_table(console, EPISODE_COLUMNS, rows, right=_RIGHT, optional=_OPTIONAL)
