"""Shows leaderboards of defences: as lines of a table, and on one HTML page."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from arena.assessment.leaderboard import Board, Place
from arena.report.effects import effect_cell
from arena.report.formatting import Cell, interval_cell, listed, number
from arena.report.html import environment, packaged
from envs.atomic_file import whole_file
from envs.errors import ArenaError, printable

_KINDS = ("attack_compute", "benign_compute")
HEADINGS = ("lost by benign users", "compute per attack query", "compute per benign query",
            "training")  # fmt: skip


class Line(NamedTuple):
    """A defence as people read it; `cells` follow `HEADINGS`."""

    rank: str
    defence: str
    setting: str
    worst: Cell
    by: str
    attackers: int
    cells: tuple[Cell, ...]
    flags: str


class BoardText(NamedTuple):
    """A board as people read it."""

    title: str
    setting: str
    lines: list[Line]


def board_text(board: Board) -> BoardText:
    """Write a board out in words and numbers."""
    return BoardText(board.game.scenario, board.game.setting, list(map(_line, board.places)))


def _line(place: Place) -> Line:
    took = None if place.effects is None else place.effects.hardening
    lost = Cell("") if place.lost is None else Cell(number(place.lost, "points"))
    return Line(
        "serves worse" if place.rank is None else str(place.rank),
        place.defence,
        "" if place.setting == place.defence else place.setting,
        interval_cell(place.worst, "share", seeds=place.worst.n),
        place.by,
        place.attackers,
        (
            lost,
            *(effect_cell(place.effect(kind)) for kind in _KINDS),
            Cell("") if took is None else interval_cell(took, "seconds", seeds=took.n),
        ),
        "not tested" if place.flags is None else
        listed([flag.name for flag in place.flags]) or "none",
    )  # fmt: skip


def write_leaderboard(boards: Sequence[Board], loss: float, out: Path) -> Path:
    """Write the page.

    Raises:
        ArenaError: it cannot be written.
    """
    source = resources.files("arena.assessment").joinpath("leaderboard.html.j2").read_text("utf-8")
    text = environment().from_string(source).render(
        style=Markup(packaged("page.css")),
        loss=number(loss, "points"),
        boards=[board_text(board) for board in boards],
        headings=HEADINGS,
    )  # fmt: skip
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(out) as part:  # never half a page
            part.write_text(printable(text), encoding="utf-8")
    except OSError as error:
        raise ArenaError(f"cannot write the leaderboard to {out}: {error.strerror}") from error
    return out
