"""Draws tables of shares as coloured squares with a text in each that fits it."""

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from arena.report.plots.style import WIDTH, shortened

COLOURS = colormaps["cividis"]
"""Even in lightness, so that it reads in grey and to the colour-blind."""

LARGEST, SMALLEST = 8.5, 4.5
"""Points of the letters; a line that would be smaller is left out."""

MARGIN = 2.2
"""Inches of a figure's width that names and the colour bar take."""


def draw_heat(
    ax: Axes,
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    texts: Sequence[Sequence[Sequence[str]]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
) -> QuadMesh:
    """Draw one table; returns what a colour bar needs.

    Args:
        ax: where.
        values: (rows, columns) from 0 to 1, NaN where there is none.
        texts: of each square its lines; all but the first are left out where they do not fit.
        rows: their names.
        columns: theirs.
    """
    inches = (WIDTH - MARGIN) / len(columns)
    lines = _fitting(texts, inches)
    size = min(LARGEST, min((_size(line, inches) for line in _all_lines(texts, lines)), default=9))
    for y, row in enumerate(texts):
        for x, cell in enumerate(row):
            if cell:
                colour = _readable_on(COLOURS(values[y, x]))
                text = "\n".join(cell[:lines])
                ax.text(x, y, text, ha="center", va="center", color=colour, fontsize=size)
    mesh = ax.pcolormesh(
        # edges, since a single row or column would not tell how wide a square is
        np.arange(len(columns) + 1) - 0.5,
        np.arange(len(rows) + 1) - 0.5,
        np.ma.masked_invalid(values),
        cmap=COLOURS,
        vmin=0,
        vmax=1,
        edgecolors="white",
        linewidth=1.5 if inches > 0.5 else 0.7,
    )
    slanted = is_slanted(columns)
    ax.set_xticks(
        range(len(columns)),
        list(shortened(columns).values()),
        rotation=35 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor" if slanted else "default",
    )
    ax.set_yticks(range(len(rows)), list(shortened(rows).values()))
    ax.invert_yaxis()
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    return mesh


def heat_height(rows: Sequence[str], columns: Sequence[str], *, lines: int) -> float:
    """Give the inches of a table: its rows, an axis label, and names at a slant."""
    slant = 0.05 * max(map(len, shortened(columns).values())) if is_slanted(columns) else 0.15
    each = 0.5 if lines > 1 and len(rows) <= 8 else 0.34 if lines > 1 else 0.26
    return each * len(rows) + 0.75 + slant


def is_slanted(names: Sequence[str]) -> bool:
    """Tell whether names are too long to stand side by side."""
    return max(map(len, shortened(names).values())) * len(names) > 62


def _fitting(texts: Sequence[Sequence[Sequence[str]]], inches: float) -> int:
    """Count the lines of a square that can be read; at least one."""
    most = max((len(cell) for row in texts for cell in row), default=1)
    for count in range(most, 1, -1):
        if all(_size(line, inches) >= SMALLEST for line in _all_lines(texts, count)):
            return count
    return 1


def _all_lines(texts: Sequence[Sequence[Sequence[str]]], count: int) -> list[str]:
    return [line for row in texts for cell in row for line in cell[:count]]


def _size(line: str, inches: float) -> float:
    """Give the points at which a line fits into a square: letters are 0.6 of their size wide."""
    return 0.94 * 72 * inches / (0.6 * max(1, len(line)))


def _readable_on(colour: tuple[float, float, float, float]) -> str:
    """Choose black or white letters by contrast, as WCAG 2.2 computes it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # contrast with white and with black is equal at sqrt(1.05 * 0.05) - 0.05
    return "black" if luminance > 0.179 else "white"
