"""The table of episodes, which the log searches, filters, sorts and cuts into pages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlencode

from markupsafe import Markup

from arena.log.episode_filter import EpisodeFilter
from arena.log.outcome import METRICS
from arena.log.overview import tally
from arena.log.reader import LogReader
from arena.log.rows import EpisodeRow
from arena.log.settings_filter import setting_of
from arena.report.formatting import count_text, duration_text, number
from arena.report.live import Found, digest
from arena.report.view.addresses import filled, whole
from envs.errors import UnknownName

ROWS = 50
"""Rows of a page."""


class Column(NamedTuple):
    """One column: its heading, whether it holds numbers, and what it shows of an episode."""

    heading: str
    numeric: bool
    text: Callable[[EpisodeRow], str]


def _measured(name: str) -> Column:
    metric = METRICS[name]

    def text(row: EpisodeRow) -> str:
        value = getattr(row, name)
        return "" if value is None else number(value, metric.unit)

    return Column(metric.short.removesuffix(" %"), True, text)


def _named(name: str, heading: str) -> Column:
    return Column(heading, False, lambda row: str(getattr(row, name)))


COLUMNS: Mapping[str, Column] = {
    "attacker": _named("attacker", "attacker"),
    "defender": _named("defender", "defender"),
    "seed": Column("seed", True, lambda row: str(row.seed)),
    "budget": Column("budget", True, lambda row: count_text(row.budget)),
    "clone_accuracy": _measured("clone_accuracy"),
    "clone_fidelity": _measured("clone_fidelity"),
    "served_accuracy": _measured("served_accuracy"),
    "attack_compute_share": _measured("attack_compute_share"),
    "benign_compute_share": _measured("benign_compute_share"),
    "scenario_name": _named("scenario_name", "scenario"),
    "status": _named("status", "status"),
    "wall_seconds": Column("time", True, lambda row: duration_text(row.wall_seconds)),
    "started": Column("started, UTC", True, lambda row: f"{row.started:%Y-%m-%d %H:%M}"),
}
"""Columns by the names that the log gives them."""

_CHOICES = {"scenario": "scenario_name", "attacker": "attacker", "defender": "defender",
            "status": "status"}  # fmt: skip


@dataclass(frozen=True)
class TableState:
    """What an address asks of the table.

    Attributes:
        words: each stands somewhere in an episode's names.
        chosen: of some of scenario, attacker, defender and status the one value shown.
        seed: alone, where not None.
        where: paths of settings and the values asked for.
        sort: the column ordered by.
        descending: whether the highest comes first.
        page: from 1.
    """

    words: str = ""
    chosen: tuple[tuple[str, str], ...] = ()
    seed: int | None = None
    where: tuple[tuple[str, str], ...] = ()
    sort: str = "started"
    descending: bool = True
    page: int = 1

    @classmethod
    def read(cls, asked: Mapping[str, list[str]]) -> "TableState":
        """Read an address.

        Raises:
            UnknownName: no such column to sort by.
            ScenarioError: a number or a setting that is none.
        """
        last = {name: values[-1] for name, values in asked.items()}
        sort = last.get("sort", "started")
        if sort not in COLUMNS:
            raise UnknownName("column to sort by", sort, COLUMNS)
        where = tuple(setting_of(text) for text in asked.get("where", ()) if text.strip())
        return cls(
            words=last.get("q", "").strip(),
            chosen=tuple((name, last[name]) for name in _CHOICES if name in last),
            seed=whole(asked, "seed", 0) if "seed" in last else None,
            where=where,
            sort=sort,
            descending=last.get("order", _first_order(sort)) != "asc",
            page=whole(asked, "page", 1, least=1),
        )

    def address(self) -> str:
        """Write it as the shortest address."""
        fields: list[tuple[str, object]] = [("q", self.words)] if self.words else []
        fields += [*self.chosen, *(("where", f"{path}={value}") for path, value in self.where)]
        fields += [] if self.seed is None else [("seed", self.seed)]
        order = "desc" if self.descending else "asc"
        if self.sort != "started" or order != _first_order(self.sort):
            fields.append(("sort", self.sort))
        if order != _first_order(self.sort):
            fields.append(("order", order))
        fields += [("page", self.page)] if self.page > 1 else []
        return f"/?{urlencode(fields)}" if fields else "/"

    def filter(self, within: EpisodeFilter | None) -> EpisodeFilter:
        """Turn it into a filter of the log, inside another one."""
        return EpisodeFilter(
            **dict(self.chosen),  # type: ignore[arg-type]  # the names are those of choices
            words=tuple(self.words.split()),
            seed=self.seed,
            where=self.where,
            within=within,
            limit=ROWS,
            offset=ROWS * (self.page - 1),
            sort=None if self.sort == "started" else self.sort,
            newest_first=self.descending,
        )

    def sorted_by(self, column: str) -> "TableState":
        """Give the table ordered by a column; the other way round where it is already."""
        down = not self.descending if column == self.sort else _first_order(column) == "desc"
        return replace(self, sort=column, descending=down, page=1)


def _first_order(column: str) -> str:
    """Tell how a column is ordered at first: numbers the highest first."""
    return "desc" if COLUMNS[column].numeric else "asc"


class Heading(NamedTuple):
    """The head of a column; `order` is how the table is sorted by it, "" if it is not."""

    text: str
    numeric: bool
    order: str
    address: str


class Line(NamedTuple):
    """One episode of the table."""

    id: str
    cells: Sequence[tuple[str, bool]]


def table_page(
    log: LogReader,
    which: EpisodeFilter | None,
    asked: Mapping[str, list[str]],
    *,
    now: Callable[[], Markup],
    title: str | None,
) -> Found:
    """Give the page of the table.

    Args:
        log: is read.
        which: what the whole site is about.
        asked: fields of the address.
        now: tells what is being played.
        title: of the page.
    """
    state = TableState.read(asked)
    within = state.filter(which)
    total = sum(tally(log, within)["status"].values())
    rows = log.episodes(within, brief=True)
    shown = digest([(row.id, row.status, total) for row in rows])
    if asked.get("shown") == [shown]:  # nothing to draw anew
        return Found("", status=HTTPStatus.NO_CONTENT)
    first = within.offset + 1
    known = tally(log, which)
    columns = dict(COLUMNS)
    if len(known["scenario_name"]) < 2:  # it would say the same in every row
        del columns["scenario_name"]
    return filled(
        "episodes.html.j2",
        address=state.address(),
        title=title or "Episodes",
        where=log.where,
        now=now(),
        state=state,
        shown=shown,
        choices={name: list(known[column]) for name, column in _CHOICES.items()},
        chosen=dict(state.chosen),
        headings=_headings(state, columns),
        lines=[
            Line(row.id, [(column.text(row), column.numeric) for column in columns.values()])
            for row in rows
        ],
        count=count_text(total),
        reach=f"{count_text(first)} to {count_text(first + len(rows) - 1)}" if rows else "none",
        before=replace(state, page=state.page - 1).address() if state.page > 1 else "",
        after=replace(state, page=state.page + 1).address()
        if within.offset + len(rows) < total and rows
        else "",
    )


def _headings(state: TableState, columns: Mapping[str, Column]) -> list[Heading]:
    order = "descending" if state.descending else "ascending"
    return [
        Heading(
            column.heading,
            column.numeric,
            order if name == state.sort else "",
            state.sorted_by(name).address(),
        )
        for name, column in columns.items()
    ]
