"""Draws how well the best attack copied each defender, over every setting that was swept."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from arena.analysis.episode_data import EpisodeData
from arena.analysis.games import Game, differing_paths, world_of
from arena.analysis.scoreboard import ScoreRow
from arena.report.formatting import digits, plain
from arena.report.plots.style import (
    PERCENT,
    Drawing,
    Pen,
    legend_below,
    named_in,
    outer_labels,
    pen,
    percent,
    settings,
    sheet,
    shortened,
)

CLONE = "clone_accuracy"

MOST_KEYS = 9
"""Panels of the figure; further settings are named in its caption."""

_WIDE = 20
"""Where the largest value is so many times the least, the axis is logarithmic."""


class Dot(NamedTuple):
    """A defender in one game.

    Attributes:
        defender: its name.
        values: of the settings that differ between games, by path.
        clone: accuracy of the best clone of each seed, averaged over seeds.
    """

    defender: str
    values: Mapping[str, object]
    clone: float


def draw_over_settings(episode_data: EpisodeData) -> Drawing | None:
    """Draw a panel for each setting; None where all games of a scenario have the same.

    Args:
        episode_data: of one scenario, all its games.
    """
    dots, keys = dots_of(episode_data.board)
    if not keys:
        return None
    shown, names = keys[:MOST_KEYS], shortened(dict.fromkeys(dot.defender for dot in dots), 30)
    with settings():
        figure, axes = sheet(len(shown), per_row=3, height=2.6, sharey=True)
        for ax, key in zip(axes, shown, strict=True):
            for index, (defender, name) in enumerate(names.items()):
                own = [dot for dot in dots if dot.defender == defender]
                _draw_panel(ax, key, own, dots, pen(index), name)
            ax.set_xlabel(key)
            ax.yaxis.set_major_formatter(PERCENT)
            ax.set_ylim(0, 1.02)
        axes[0].set_ylabel("clone accuracy, best attack")
        outer_labels(axes, per_row=3)
        legend_below(figure, named_in(axes))
    left_out = f" Not drawn: {', '.join(keys[MOST_KEYS:])}." if len(keys) > MOST_KEYS else ""
    return Drawing(
        "settings",
        "Over the settings",
        "Each dot is one game: the best clone of each seed over the attackers, averaged over "
        f"seeds. The line joins their means at each value, over all other settings.{left_out}",
        "Charts. " + " ".join(_sentence(key, dots) for key in shown),
        figure,
        [("defender", *keys, CLONE),
         *((dot.defender, *(plain(dot.values[key]) for key in keys), dot.clone) for dot in dots)],
    )  # fmt: skip


def dots_of(board: Sequence[ScoreRow]) -> tuple[list[Dot], list[str]]:
    """Return a dot for each defender of each game, and the paths in which games differ."""
    meetings: dict[tuple[Game, str], list[ScoreRow]] = defaultdict(list)
    for row in board:
        if row.by_seed(CLONE):
            meetings[row.game, row.versus].append(row)
    worlds = {game: world_of(next(iter(rows[0].episodes.values())))
              for (game, _), rows in meetings.items()}  # fmt: skip
    keys = [path for path in differing_paths(list(worlds.values()))
            if not path.startswith("contents.")]  # fmt: skip
    dots = [
        Dot(versus, {key: worlds[game].get(key) for key in keys}, _best(rows))
        for (game, versus), rows in meetings.items()
    ]
    return dots, keys


def _best(rows: Sequence[ScoreRow]) -> float:
    best: dict[int, float] = {}
    for row in rows:
        for seed, value in row.by_seed(CLONE).items():
            best[seed] = max(best.get(seed, value), value)
    return fmean(best.values())


def _draw_panel(
    ax: Axes, key: str, dots: Sequence[Dot], every: Sequence[Dot], look: Pen, label: str
) -> None:
    """Draw one defender's dots at places that all defenders share."""
    across: dict[float, list[float]] = defaultdict(list)
    labels = [plain(dot.values[key]) for dot in dots]
    numbers = [dot.values[key] for dot in every]
    numeric = all(isinstance(one, int | float) and not isinstance(one, bool) for one in numbers)
    places = {text: float(place) for place, text in enumerate(sorted(set(map(plain, numbers))))}
    for dot, text in zip(dots, labels, strict=True):
        value = dot.values[key]
        at = float(value) if numeric and isinstance(value, int | float) else places[text]
        across[at].append(dot.clone)
    if numeric and min(across) > 0 and max(across) >= _WIDE * min(across):
        ax.set_xscale("log")
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: digits(value)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    if not numeric:
        ax.set_xticks(list(places.values()), list(shortened(places, 14).values()))
        ax.margins(x=0.2)
    points = [(at, clone) for at, clones in across.items() for clone in clones]
    ax.plot(*zip(*points, strict=True), linestyle="", marker=look.marker, color=look.colour,
            alpha=0.45, markersize=3.5)  # fmt: skip
    line = sorted((at, fmean(clones)) for at, clones in across.items())
    ax.plot(*zip(*line, strict=True), color=look.colour, linestyle=look.dashes, label=label)


def _sentence(key: str, dots: Sequence[Dot]) -> str:
    """Say in words what a panel shows."""
    by_value: dict[str, list[float]] = defaultdict(list)
    for dot in dots:
        by_value[plain(dot.values[key])].append(dot.clone)
    told = [f"{percent(fmean(clones))} at {value}" for value, clones in by_value.items()]
    return f"{key}: {', '.join(told[:8])}{', ...' if len(told) > 8 else ''} over all defenders."
