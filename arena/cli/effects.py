"""`arena compare DEFENDER`: what every other defender brings and costs beside this one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from arena.cli.common import out
from arena.cli.render import write_json, write_line, write_table
from arena.report.formatting import ABSENT, Cell

if TYPE_CHECKING:
    from arena.analysis.effects import DefenceEffects
    from arena.analysis.games import Game
    from arena.log.rows import EpisodeRow


def show_effects(episodes: "Sequence[EpisodeRow]", control: str, *, json: bool) -> None:
    """Hold the defenders of each game against one of them.

    Raises:
        UnknownName: no game has a successful play of that defender.
        ArenaError: there is no other defender.
    """
    from arena.analysis.effects import effects_of
    from arena.analysis.scoreboard import scoreboard
    from envs.errors import ArenaError, UnknownName

    board = scoreboard(episodes)
    with_control = {row.game for row in board if control in (row.defender, row.versus)}
    if not with_control:
        known = {row.defender for row in board}
        raise UnknownName("defender with a successful play", control, known)
    found = {
        game: effects
        for game in dict.fromkeys(row.game for row in board)
        if game in with_control
        and (effects := effects_of([row for row in board if row.game == game], control))
    }
    if not found:
        raise ArenaError(f"expected another defender to hold against {control}, on a seed and "
                         f"against an attacker that both met; got none")  # fmt: skip
    if json:
        write_json([_told(game, control, effects) for game, effects in found.items()])
        return
    for game, effects in found.items():
        _write(game, control, effects)


def _told(game: "Game", control: str, effects: "Sequence[DefenceEffects]") -> dict[str, object]:
    return {
        "scenario": game.scenario,
        "setting": game.setting,
        "control": control,
        "defenders": [one.as_dict() for one in effects],
    }


def _write(game: "Game", control: str, effects: "Sequence[DefenceEffects]") -> None:
    from arena.report.effects import effect_table

    console, table = out(), effect_table(effects)
    write_line(
        console,
        f"{game.title}: how each defender differs from {control}, in points, paired by seed",
    )
    rows = [(line.defender, *map(_text, line.cells)) for line in table.lines]
    columns = ("defender", *table.headings)
    write_table(console, columns, rows, right=columns[1:], optional=columns[:1:-1])
    write_line(console, "* shown by a paired t test, corrected by Holm for the defenders of the "
                        "column; the interval has the level of that test")  # fmt: skip
    if table.note:
        write_line(console, f"attackers that did not meet a defender: {table.note}")


def _text(cell: Cell) -> str:
    if not cell.mean:
        return ABSENT
    return f"{cell.mean} ({cell.interval})" if cell.interval else cell.mean
