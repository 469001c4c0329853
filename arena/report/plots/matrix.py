"""Draws every attacker against every defender, with the numbers in the squares."""

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.ticker import PercentFormatter

from arena.analysis.episode_data import EpisodeData
from arena.analysis.scoreboard import ScoreRow
from arena.report.plots.style import WIDTH, Drawing, percent, settings, sheet, shortened

MEASURE = "clone_accuracy"

COLOURS = colormaps["cividis"]
"""Even in lightness, so that it reads in grey and to the colour-blind."""


def draw_matrix(episode_data: EpisodeData) -> Drawing | None:
    """Draw mean clone accuracy of each meeting; None where no clone was measured."""
    rows = [row for row in episode_data.board if MEASURE in row.scores]
    if not rows:
        return None
    attackers = list(dict.fromkeys(row.attack for row in rows))
    defenders = list(dict.fromkeys(row.versus for row in rows))
    with settings():
        figure, (ax,) = sheet(1, per_row=1, height=_height(attackers, defenders))
        mesh = _draw_panel(ax, rows, attackers=attackers, defenders=defenders)
        bar = figure.colorbar(mesh, ax=ax, fraction=0.035, pad=0.02)
        bar.ax.yaxis.set_major_formatter(PercentFormatter(1))
        bar.set_label("clone accuracy")
    found = "; ".join(f"{row.title} {percent(row.scores[MEASURE].mean)}" for row in rows)
    return Drawing(
        "matrix",
        "Attackers against defenders",
        "Mean clone accuracy in percent, and below it the 95% interval where there are several "
        "seeds. Dark squares are good for the defender.",
        f"Table of squares. {found}.",
        figure,
    )


def _draw_panel(
    ax: Axes, rows: list[ScoreRow], *, attackers: list[str], defenders: list[str]
) -> QuadMesh:
    values = np.full((len(attackers), len(defenders)), np.nan)
    for row in rows:
        score = row.scores[MEASURE]
        y, x = attackers.index(row.attack), defenders.index(row.versus)
        values[y, x] = score.mean
        text = f"{100 * score.mean:.1f}"
        if score.low is not None and score.high is not None:
            text += f"\n{100 * score.low:.0f} to {100 * score.high:.0f}"
        colour = _readable_on(COLOURS(score.mean))
        size = 8.5 if WIDTH / (len(defenders) + 2.5) > 0.6 else 6.5
        ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=size)
    mesh = ax.pcolormesh(
        # edges, since a single row or column would not tell how wide a square is
        np.arange(len(defenders) + 1) - 0.5,
        np.arange(len(attackers) + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=COLOURS,
        vmin=0,
        vmax=1,
        edgecolors="white",
        linewidth=1.5,
    )
    slanted = _slanted(defenders)
    ax.set_xticks(
        range(len(defenders)),
        list(shortened(defenders).values()),
        rotation=30 if slanted else 0,
        ha="right" if slanted else "center",
    )
    ax.set_yticks(range(len(attackers)), list(shortened(attackers).values()))
    ax.set_xlabel("defender")
    ax.set_ylabel("attacker")
    ax.invert_yaxis()
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return mesh


def _slanted(names: list[str]) -> bool:
    """Tell whether the names are too long to stand side by side."""
    return max(map(len, names)) * len(names) > 70


def _height(attackers: list[str], defenders: list[str]) -> float:
    """Give the inches of a panel: rows, axis label and title, and names at a slant."""
    slant = 0.04 * max(map(len, shortened(defenders).values())) if _slanted(defenders) else 0
    row = 0.5 if len(attackers) <= 8 else 0.36
    return row * len(attackers) + 1.1 + slant


def _readable_on(colour: tuple[float, float, float, float]) -> str:
    """Choose black or white letters by contrast, as WCAG 2.2 computes it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # contrast with white and with black is equal at sqrt(1.05 * 0.05) - 0.05
    return "black" if luminance > 0.179 else "white"
