"""Draws every attacker against every defender, with the numbers in the squares."""

from collections.abc import Iterable

import numpy as np
from matplotlib.ticker import PercentFormatter

from arena.analysis.episode_data import EpisodeData
from arena.analysis.scoreboard import ScoreRow
from arena.report.plots.heat import draw_heat, heat_height
from arena.report.plots.style import Drawing, percent, settings, sheet

MEASURE = "clone_accuracy"


def draw_matrix(episode_data: EpisodeData) -> Drawing | None:
    """Draw mean clone accuracy of each meeting; None where no clone was measured.

    Players are sorted, the best attackers and the defenders copied least first; the side with more
    of them stands in the rows.
    """
    met = {(row.attack, row.versus): row for row in episode_data.board if MEASURE in row.scores}
    if not met:
        return None
    attackers = _ranked((attack for attack, _ in met), met, side=0, sign=-1)
    defenders = _ranked((versus for _, versus in met), met, side=1, sign=1)
    turned = len(defenders) > len(attackers)
    rows, columns = (defenders, attackers) if turned else (attackers, defenders)
    cells = [
        [met.get((column, row) if turned else (row, column)) for column in columns] for row in rows
    ]
    values = np.array([[cell.scores[MEASURE].mean if cell else np.nan for cell in row]
                       for row in cells])  # fmt: skip
    texts = [[_lines(cell) for cell in row] for row in cells]
    lines = max(len(lines) for row in texts for lines in row)
    with settings():
        height = heat_height(rows, columns, lines=lines)
        figure, (ax,) = sheet(1, per_row=1, height=height)
        mesh = draw_heat(ax, values, texts, rows=rows, columns=columns)
        ax.set_xlabel("attacker" if turned else "defender")
        ax.set_ylabel("defender" if turned else "attacker")
        bar = figure.colorbar(mesh, ax=ax, fraction=0.035, pad=0.02)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
        bar.set_label("clone accuracy")
    found = "; ".join(f"{row.title} {percent(row.scores[MEASURE].mean)}" for row in met.values())
    return Drawing(
        "matrix",
        "Attackers against defenders",
        "Mean clone accuracy in percent, and below it the 95% interval where there are several "
        "seeds and room; the scoreboard has all of them. Dark squares are good for the defender. "
        "Sorted: the best attackers and the defenders that were copied least come first.",
        f"Table of squares. {found}.",
        figure,
    )


def _ranked(
    names: Iterable[str], met: dict[tuple[str, str], ScoreRow], *, side: int, sign: int
) -> list[str]:
    """Sort players by the mean over their meetings."""

    def strength(name: str) -> float:
        scores = [row.scores[MEASURE].mean for pair, row in met.items() if pair[side] == name]
        return sign * sum(scores) / len(scores)

    return sorted(dict.fromkeys(names), key=strength)


def _lines(row: ScoreRow | None) -> tuple[str, ...]:
    if row is None:
        return ()
    score = row.scores[MEASURE]
    mean = f"{100 * score.mean:.1f}"
    if score.low is None or score.high is None:
        return (mean,)
    return mean, f"{100 * score.low:.0f} to {100 * score.high:.0f}"
