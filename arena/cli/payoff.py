"""`arena payoff`: the payoff matrix of attackers and defenders, and its equilibrium."""

from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import JsonOption, LogOption, out
from arena.cli.filters import filtered
from arena.cli.render import percent_interval, write_json, write_line, write_table
from arena.report.formatting import counted, percent

if TYPE_CHECKING:
    from arena.analysis.intervals import Interval
    from arena.analysis.payoff import PayoffMatrix, Prices, Solution
    from arena.log.episode_filter import EpisodeFilter

FEW_SEEDS = 10
_MOST = 1e6


@filtered("scenario", "attacker", "defender", "run", "where", "since")
def payoff(
    which: "EpisodeFilter | None" = None,
    utility_price: Annotated[
        float,
        typer.Option(
            min=0,
            max=_MOST,
            help="Price of utility: points of clone accuracy that a point lost to benign users "
            "is worth.",
        ),
    ] = 0.0,
    compute_price: Annotated[
        float,
        typer.Option(
            min=0,
            max=_MOST,
            help="Price of compute: the same for one percent of compute per benign query.",
        ),
    ] = 0.0,
    log: LogOption = None,
    json: JsonOption = False,
) -> None:
    """Show the payoff matrix, its Nash equilibrium and each player's exploitability."""
    from arena.analysis.payoff import Prices, payoff_games, solved
    from arena.analysis.scoreboard import scoreboard
    from arena.log.store import Log

    prices = Prices(utility_price, compute_price)
    with Log.open(log, create=False) as store:
        matrices, left_out = payoff_games(scoreboard(store.episodes(which)), prices)
    solutions = {game: (matrix, solved(matrix)) for game, matrix in matrices.items()}
    if json:
        games = [
            {"scenario": game.scenario, "setting": game.setting, **_as_dict(*one, prices)}
            for game, one in solutions.items()
        ]
        write_json({"games": games, "left_out": list(left_out)})
        return
    for game, (matrix, solution) in solutions.items():
        if len(solutions) + len(left_out) > 1:
            write_line(out(), game.title)
        _show(matrix, solution, prices)
    for line in left_out:
        write_line(out(), f"left out: {line}")


def _show(matrix: "PayoffMatrix", solution: "Solution", prices: "Prices") -> None:
    console = out()
    priced = prices.utility or prices.compute
    write_line(console, "loss of the defender, %" if priced else "clone accuracy, %")
    columns = ("", *matrix.defenders, "attacker plays %")
    rows = [
        (name, *(percent_interval(matrix.cell(a, d)) for d in range(len(matrix.defenders))),
         percent(float(solution.equilibrium.attacker[a])))
        for a, name in enumerate(matrix.attackers)
    ]  # fmt: skip
    for name, values in (
        ("defender plays %", solution.equilibrium.defender),
        ("to its best attacker", solution.worst),
        ("exploitability", solution.exploitability),
    ):
        rows.append((name, *(percent(float(value)) for value in values), ""))
    write_table(console, columns, rows, right=columns[1:])
    value = solution.value
    ends = "" if value.low is None else f" ({percent(value.low)} to {percent(value.high)})"
    write_line(console, f"value of the game: {percent(value.mean)} %{ends}, "
                        f"{counted(len(matrix.seeds), 'seed')}")  # fmt: skip
    if len(matrix.seeds) < FEW_SEEDS:
        write_line(console, f"with fewer than {FEW_SEEDS} seeds the bootstrap interval of the "
                            f"value is too narrow")  # fmt: skip


def _as_dict(matrix: "PayoffMatrix", solution: "Solution", prices: "Prices") -> dict[str, object]:
    value = solution.value
    cells = [
        {"attacker": a, "defender": d, **_interval(matrix.cell(i, j))}
        for i, a in enumerate(matrix.attackers)
        for j, d in enumerate(matrix.defenders)
    ]
    return {
        "seeds": list(matrix.seeds),
        "prices": prices,
        "cells": cells,
        "value": {"mean": value.mean, "low": value.low, "high": value.high},
        "attacker": dict(
            zip(matrix.attackers, solution.equilibrium.attacker.tolist(), strict=True)
        ),
        "defender": dict(
            zip(matrix.defenders, solution.equilibrium.defender.tolist(), strict=True)
        ),
        "worst": dict(zip(matrix.defenders, solution.worst.tolist(), strict=True)),
        "exploitability": dict(
            zip(matrix.defenders, solution.exploitability.tolist(), strict=True)
        ),
    }


def _interval(score: "Interval") -> dict[str, object]:
    return {"mean": score.mean, "low": score.low, "high": score.high}
