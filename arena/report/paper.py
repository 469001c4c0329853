"""Lays what was measured beside the source paper's tables, where a scenario says it plays them.

A scenario says so by a tag such as "paper:table1a"; the published cells are in published.toml.
"""

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple, TypedDict, cast

from arena.dossier import Dossier
from arena.report.wording import counted, listed
from arena.scoreboard import ScoreRow

TAG = "paper:"
Standing = Literal["certain", "row inferred", "unpublished"]


class _Table(TypedDict):
    tag: str
    title: str
    labels: str
    columns: list[list[str]]
    cells: dict[str, list[str]]


class _File(TypedDict):
    data_names: dict[str, str]
    tables: list[_Table]


class Published(NamedTuple):
    """One published cell: percent, its deviation, and how sure its place is; None: unpublished."""

    mean: float | None
    deviation: float | None
    standing: Standing


class Column(NamedTuple):
    """Data and clone of a table's column, as the paper has them."""

    data: str
    clone: str


@dataclass(frozen=True)
class PaperTable:
    """A table as it was published: `cells` by defender, one for each column."""

    tag: str
    title: str
    labels: str
    columns: tuple[Column, ...]
    cells: Mapping[str, tuple[Published, ...]]


class PaperCell(NamedTuple):
    """A measured cell above the published one, both as text; "" where nobody played it."""

    measured: str
    note: str
    published: str
    standing: Standing


class PaperRow(NamedTuple):
    """One defence of a table."""

    defender: str
    cells: list[PaperCell]


@dataclass(frozen=True)
class Beside:
    """A table of the page: its headings, its rows, and what is to be known of them."""

    anchor: str
    title: str
    headings: list[str]
    rows: list[PaperRow]
    remark: str


def beside_published(dossier: Dossier) -> list[Beside]:
    """Lay the measured cells of every table that some scenario plays beside the published ones."""
    tags = _tags(dossier)
    found = []
    for table in published_tables():
        board = [row for row in dossier.board if table.tag in tags.get(row.scenario, ())]
        if board:
            found.append(_beside(table, board))
    return found


@cache
def published_tables() -> tuple[PaperTable, ...]:
    """Read the published tables."""
    return tuple(
        PaperTable(
            tag=table["tag"],
            title=table["title"],
            labels=table["labels"],
            columns=tuple(Column(*column) for column in table["columns"]),
            cells={name: tuple(map(_published, cells)) for name, cells in table["cells"].items()},
        )
        for table in _file()["tables"]
    )


@cache
def _file() -> _File:
    text = resources.files("arena.report").joinpath("published.toml").read_text(encoding="utf-8")
    return cast(_File, tomllib.loads(text))  # ours, in the package


def _published(text: str) -> Published:
    """Read a cell: "84.28 1.37", with a star where the row was inferred, or "-"."""
    if text == "-":
        return Published(None, None, "unpublished")
    mean, deviation, *star = text.split()
    return Published(float(mean), float(deviation), "row inferred" if star else "certain")


def _tags(dossier: Dossier) -> dict[str, set[str]]:
    """Give the tags of each scenario, from the texts that its runs kept."""
    tags: dict[str, set[str]] = {}
    for run in dossier.runs:
        try:
            said = tomllib.loads(run.scenario_text).get("tags", [])
        except tomllib.TOMLDecodeError:
            continue
        if isinstance(said, list):
            tags.setdefault(run.scenario_name, set()).update(map(str, said))
    return tags


def _beside(table: PaperTable, board: Sequence[ScoreRow]) -> Beside:
    rows = [
        PaperRow(
            name,
            [
                _cell(cell, _meeting(board, name, column, table.labels))
                for column, cell in zip(table.columns, cells, strict=True)
            ],
        )
        for name, cells in table.cells.items()
    ]
    return Beside(
        anchor=re.sub(r"\W+", "-", table.tag),
        title=table.title,
        headings=[f"{column.data}, {column.clone}" for column in table.columns],
        rows=rows,
        remark=_remark(rows, board),
    )


def _meeting(
    board: Iterable[ScoreRow], defender: str, column: Column, labels: str
) -> list[ScoreRow]:
    """Find the rows of a cell; several where it was played with several settings."""
    return [
        row
        for row in board
        if _plain(row.defender) == _plain(defender)
        and _is_in(row, column)
        and _labels(row) in (labels, None)
        and "clone_accuracy" in row.scores
    ]


def _is_in(row: ScoreRow, column: Column) -> bool:
    episode = next(iter(row.episodes.values()))
    data = _file()["data_names"].get(episode.data, episode.data)
    return data == column.data and _plain(episode.clone).startswith(_plain(column.clone))


def _labels(row: ScoreRow) -> object:
    threat = next(iter(row.episodes.values())).plan.get("threat")
    return threat.get("labels") if isinstance(threat, Mapping) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _cell(cell: Published, rows: Sequence[ScoreRow]) -> PaperCell:
    """Write a cell; of several settings the one in which the clone came out best."""
    published = "unpublished"
    if cell.mean is not None:
        published = f"{cell.mean:.2f} ± {cell.deviation:.2f}"
    if not rows:
        return PaperCell("", "", published, cell.standing)
    row = max(rows, key=lambda row: row.scores["clone_accuracy"].mean)
    score = row.scores["clone_accuracy"]
    note = counted(score.n, "seed")
    if score.low is not None and score.high is not None:
        note = f"{100 * score.low:.1f} to {100 * score.high:.1f}, {note}"
    if len(rows) > 1:
        note += f", best of {len(rows)} settings"
    return PaperCell(f"{100 * score.mean:.2f}", note, published, cell.standing)


def _remark(rows: Sequence[PaperRow], board: Sequence[ScoreRow]) -> str:
    """Say how much was played, at which budgets, and what the two figures mean."""
    cells = [cell for row in rows for cell in row.cells]
    played = sum(bool(cell.measured) for cell in cells)
    budgets = sorted(
        {episode.budget for row in board for episode in row.episodes.values() if episode.budget}
    )
    asked = listed([f"{budget:,}" for budget in budgets]) or "an unknown number of"
    return (
        f"{played} of {len(cells)} cells were played here, with {asked} queries. Measured: the "
        "clone at the end of the budget, mean over seeds and 95% interval. Published: the best "
        "test accuracy over the clone's epochs, mean ± deviation, at the paper's own budgets."
    )
