"""`arena leaderboard`: defences by their worst case, where they serve about equally well."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import JsonOption, LogOption, out
from arena.cli.filters import filtered
from arena.cli.places import require_file
from arena.cli.render import write_json, write_line, write_table
from arena.report.formatting import ABSENT, Cell, number
from envs.errors import ArenaError

if TYPE_CHECKING:
    from arena.assessment.leaderboard import Board
    from arena.log.episode_filter import EpisodeFilter

_SHORT = ("users lose", "attack MACs", "benign MACs", "training")
"""Headings of the cells of a line, short enough for a terminal."""


@filtered("scenario", "attacker", "defender", "run", "where", "since")
def leaderboard(
    which: "EpisodeFilter | None" = None,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Write an HTML page there too."),
    ] = None,
    loss: Annotated[
        float,
        typer.Option(min=0, max=100, help="Points of accuracy that a defence may take from "
                                          "benign users."),
    ] = 0.5,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:  # fmt: skip
    """Rank defences by the best clone that any attack got, at about equal service.

    Flags are told of scenarios that `arena assess` played.
    """
    require_file(out_file)
    from arena.assessment.leaderboard import leaderboards
    from arena.assessment.leaderboard_page import write_leaderboard
    from arena.log.store import Log

    with Log.open(log, create=False) as store:
        boards = leaderboards(store, store.episodes(which), loss=loss / 100)
        where = store.where
    if not boards:
        raise ArenaError(f"expected successful plays against 'undefended', which others are held "
                         f"against; {where} has none that were chosen")  # fmt: skip
    path = None if out_file is None else write_leaderboard(boards, loss / 100, out_file)
    if json:
        told = [
            {
                "scenario": one.game.scenario,
                "setting": one.game.setting,
                "places": [place.as_dict() for place in one.places],
            }
            for one in boards
        ]
        write_json({"loss": loss / 100, "boards": told, "file": path})
        return
    for board in boards:
        _show(board)
    write_line(
        out(),
        f"worst case: the best clone of each seed; ranked where benign users lose at most "
        f"{number(loss / 100, 'points')} points; a rank is one more than the number of defences "
        f"that a paired test shows to be copied less; losses and compute in points",
    )
    if path is not None:
        write_line(out(), str(path))


def _show(board: "Board") -> None:
    from arena.assessment.leaderboard_page import board_text

    text = board_text(board)
    write_line(out(), board.game.title)
    rows = [
        (line.rank, line.setting or line.defence, _in_line(line.worst), line.by,
         *map(_in_line, line.cells), line.flags)
        for line in text.lines
    ]  # fmt: skip
    columns = ("rank", "defence", "worst case", "attack", *_SHORT, "flags")
    write_table(out(), columns, rows, right=("rank", "worst case", *_SHORT),
                optional=("training", "benign MACs", "attack MACs", "flags", "attack"))  # fmt: skip


def _in_line(cell: Cell) -> str:
    if not cell.mean:
        return ABSENT
    return f"{cell.mean} ({cell.interval})" if cell.interval else cell.mean
