"""Lays what was measured beside the source paper's tables, where a scenario says it plays them.

A scenario says so by a tag such as "paper:table1a", and which column it is by another such as
"column:C10 DenseNet121"; the published cells are in published.toml.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, NamedTuple, TypedDict, cast

from arena.analysis.episode_data import EpisodeData
from arena.analysis.scoreboard import ScoreRow
from arena.log.rows import EpisodeRow
from arena.report.formatting import count_text, counted, listed

COLUMN = "column:"
Standing = Literal["certain", "row inferred", "unpublished"]


class _PublishedTable(TypedDict):
    tag: str
    attacker: str
    title: str
    labels: str
    columns: list[list[str]]
    cells: dict[str, list[str]]


class _PublishedFile(TypedDict):
    data_names: dict[str, str]
    tables: list[_PublishedTable]


class Published(NamedTuple):
    """One published cell: percent, its deviation, and how sure its place is; None: unpublished."""

    mean: float | None
    deviation: float | None
    standing: Standing


class Column(NamedTuple):
    """A table's column: its heading, and data and clone as the paper has them."""

    heading: str
    data: str
    clone: str


@dataclass(frozen=True)
class PaperTable:
    """A table as it was published: `cells` by defender, one for each column."""

    tag: str
    attacker: str
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


def beside_published(episode_data: EpisodeData) -> list[Beside]:
    """Lay the measured cells of every table that some scenario plays beside the published ones."""
    tags = _tags(episode_data)
    found = []
    for table in published_tables():
        board = [row for row in episode_data.board if table.tag in tags.get(row.scenario, ())]
        if board:
            found.append(_beside(table, board, tags))
    return found


@cache
def published_tables() -> tuple[PaperTable, ...]:
    """Read the published tables."""
    return tuple(
        PaperTable(
            tag=table["tag"],
            attacker=table["attacker"],
            title=table["title"],
            labels=table["labels"],
            columns=tuple(Column(*column) for column in table["columns"]),
            cells={name: tuple(map(_published, cells)) for name, cells in table["cells"].items()},
        )
        for table in _file()["tables"]
    )


@cache
def _file() -> _PublishedFile:
    text = resources.files("arena.report").joinpath("published.toml").read_text(encoding="utf-8")
    return cast(_PublishedFile, tomllib.loads(text))  # ours, in the package


def _published(text: str) -> Published:
    """Read a cell: "84.28 1.37", with a star where the row was inferred, or "-"."""
    if text == "-":
        return Published(None, None, "unpublished")
    mean, deviation, *star = text.split()
    return Published(float(mean), float(deviation), "row inferred" if star else "certain")


def _tags(episode_data: EpisodeData) -> dict[str, set[str]]:
    """Give the tags of each scenario, from the texts that its runs kept."""
    tags: dict[str, set[str]] = {}
    for run in episode_data.runs:
        try:
            said = tomllib.loads(run.scenario_text).get("tags", [])
        except tomllib.TOMLDecodeError:
            continue
        if isinstance(said, list):
            tags.setdefault(run.scenario_name, set()).update(map(str, said))
    return tags


def _beside(table: PaperTable, board: Sequence[ScoreRow], tags: Mapping[str, set[str]]) -> Beside:
    places = [(_column(row, table, tags.get(row.scenario, set())), row) for row in board]
    rows = [
        PaperRow(name, [_cell_of(table, name, k, places) for k in range(len(table.columns))])
        for name in table.cells
    ]
    return Beside(
        anchor=re.sub(r"\W+", "-", table.tag),
        title=table.title,
        headings=[column.heading for column in table.columns],
        rows=rows,
        remark=_remark(rows, board),
    )


def _cell_of(
    table: PaperTable, defender: str, number: int, places: Sequence[tuple[Column | None, ScoreRow]]
) -> PaperCell:
    """Write the cell of a defence in the column with this number."""
    column, cell = table.columns[number], table.cells[defender][number]
    rows = [row for at, row in places if at == column and _plays(row, defender, table)]
    return _cell(cell, rows, column, attacker=table.attacker)


def _column(row: ScoreRow, table: PaperTable, tags: set[str]) -> Column | None:
    """Find the column of a row: the one its scenario names, or that of its networks."""
    named = {tag.removeprefix(COLUMN) for tag in tags if tag.startswith(COLUMN)}
    for column in table.columns:
        if column.heading in named or (not named and _has_networks_of(row, column)):
            return column
    return None


def _has_networks_of(row: ScoreRow, column: Column) -> bool:
    return _paper_data(row) == column.data and _is_clone_of(row, column)


def _paper_data(row: ScoreRow) -> str:
    """Name a row's data as the paper does, where it has them."""
    data = _episode(row).data
    return _file()["data_names"].get(data, data)


def _is_clone_of(row: ScoreRow, column: Column) -> bool:
    return _plain(_episode(row).clone).startswith(_plain(column.clone))


def _plays(row: ScoreRow, defender: str, table: PaperTable) -> bool:
    """Tell whether a row has a number for a defence of the table, on the table's labels."""
    same = _plain(row.defender) == _plain(defender) and _labels(row) in (table.labels, None)
    return same and "clone_accuracy" in row.scores


def _episode(row: ScoreRow) -> EpisodeRow:
    return next(iter(row.episodes.values()))


def _labels(row: ScoreRow) -> object:
    threat = _episode(row).plan.get("threat")
    return threat.get("labels") if isinstance(threat, Mapping) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _cell(cell: Published, rows: Sequence[ScoreRow], column: Column, *, attacker: str) -> PaperCell:
    """Write a cell; of several settings the one in which the clone came out best.

    What is not the column's, as in a run that was scaled down, is named.
    """
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
    others = [
        f"data {_episode(row).data}" * (_paper_data(row) != column.data),
        f"clone {_episode(row).clone}" * (not _is_clone_of(row, column)),
        f"by {row.attacker}" * (_plain(row.attacker) != _plain(attacker)),
        f"best of {len(rows)} settings" * (len(rows) > 1),
    ]
    note = ", ".join(filter(None, (note, *others)))
    return PaperCell(f"{100 * score.mean:.2f}", note, published, cell.standing)


def _remark(rows: Sequence[PaperRow], board: Sequence[ScoreRow]) -> str:
    """Say how much was played, at which budgets, and what the two figures mean."""
    cells = [cell for row in rows for cell in row.cells]
    played = sum(bool(cell.measured) for cell in cells)
    budgets = sorted({episode.budget for row in board for episode in row.episodes.values()})
    victims = listed(sorted({_episode(row).victim for row in board}))
    asked = listed([count_text(budget) for budget in budgets]) or "an unknown number of"
    return (
        f"{played} of {len(cells)} cells were played here, with {asked} queries "
        f"against {victims}. Percent of test images that the clone gets right. Measured: the "
        "clone at the end of the budget, mean over seeds and 95% interval. Published: the best "
        "test accuracy over the clone's epochs, mean ± deviation, at the paper's own budgets."
    )
