"""Draws what the attackers had learnt at each point of their budget."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import EngFormatter, PercentFormatter

from arena.analysis.effects import CONTROL
from arena.analysis.episode_data import EpisodeData
from arena.analysis.image_sampling import accuracy_interval, common_denominator
from arena.analysis.intervals import Interval
from arena.analysis.learning import track_of
from arena.analysis.metrics import chance_level
from arena.analysis.scoreboard import ScoreRow
from arena.log.rows import CheckpointRow
from arena.report.plots.style import (
    FEW_SEEDS,
    GREY,
    PALE,
    Drawing,
    Pen,
    legend_below,
    named_in,
    outer_labels,
    pen,
    percent,
    settings,
    sheet,
    short,
    shortened,
)

LINES = 6
"""More lines than this in one panel are taken apart by attacker."""

FEW = 6
"""Panels that stand two in a row; more stand three in a row, and lower."""


class Curve(NamedTuple):
    """A measure along the budget, averaged over seeds: queries asked, and an interval at each."""

    queries: list[float]
    scores: list[Interval]


def curve(seeds: Sequence[Sequence[CheckpointRow]], images: int | None = None) -> Curve:
    """Average the clone accuracy of several seeds along the budget.

    Seeds are read at every point where one of them was measured, by straight lines between
    their own measurements, as far as all of them reach; a clone that was trained at the end alone
    leaves one point. `images` is how many the clones of the checkpoints were measured on.
    """
    tracks = [points for seed in seeds if (points := track_of(seed).points)]
    if not tracks:
        return Curve([], [])
    first = max(track[0][0] for track in tracks)
    last = min(track[-1][0] for track in tracks)
    asked = {queries for track in tracks for queries, _ in track}
    queries = sorted(point for point in asked if first <= point <= last)
    columns = [
        np.interp(queries, [at for at, _ in track], [score for _, score in track])
        for track in tracks
    ]
    scores = [accuracy_interval(values.tolist(), images) for values in np.array(columns).T]
    return Curve([float(point) for point in queries], scores)


def draw_curves(episode_data: EpisodeData) -> Drawing | None:
    """Draw clone accuracy over queries, one line for each meeting; None without checkpoints."""
    rows = [(row, _curve_of(row, episode_data)) for row in episode_data.board]
    rows = [(row, line) for row, line in rows if line.queries]
    if not rows:
        return None
    apart = len(rows) > LINES
    panels = list(dict.fromkeys(row.attack for row, _ in rows)) if apart else [""]
    versus = list(dict.fromkeys(row.versus for row, _ in rows))
    crowded = apart and len(versus) > LINES
    with settings():
        per_row, height = (2, 2.9) if len(panels) <= FEW else (3, 1.9)
        figure, axes = sheet(len(panels), per_row=per_row, height=height, sharex=True, sharey=True)
        for ax, panel in zip(axes, panels, strict=True):
            mine = [(row, line) for row, line in rows if panel in ("", row.attack)]
            if crowded:
                _draw_crowd(ax, mine)
            else:
                _draw_few(ax, mine, versus if apart else [], episode_data)
            _finish(ax, episode_data, title=short(panel, 40 if per_row == 2 else 28))
            if crowded:
                ax.set_ylim(bottom=-0.12)  # room for the name of the lowest line
        outer_labels(axes, per_row=per_row)
        legend_below(figure, named_in(axes))
    ends = "; ".join(f"{row.title} ends at {percent(line.scores[-1].mean)}" for row, line in rows)
    return Drawing(
        "clone-accuracy",
        "Clone accuracy over the budget",
        "Test accuracy of the clone after so many queries: mean over seeds, and the band of its "
        "95% interval where there are several seeds. A clone that is trained at the end alone is "
        "a point. " + (_CROWD if crowded else _DOTS),
        f"Line chart of clone accuracy over queries. {ends}.",
        figure,
    )


_DOTS = f"Small dots are single seeds, where there are {FEW_SEEDS} or fewer."
_CROWD = (
    "A grey line is a defender; named are the undefended victim and, of the others, the one that "
    "was copied least. The matrix has all ends."
)


def _draw_few(
    ax: Axes,
    rows: Sequence[tuple[ScoreRow, Curve]],
    versus: Sequence[str],
    episode_data: EpisodeData,
) -> None:
    """Draw each line with a colour of its own, which it keeps in all panels.

    Args:
        ax: the panel.
        rows: what it shows.
        versus: the defenders of all panels in their order; empty in a panel that stands alone.
        episode_data: has the single seeds.
    """
    names = [row.versus if versus else row.title for row, _ in rows]
    labels = shortened(versus or names, 34)
    shade = 0.15 if len(rows) <= 3 else 0.07
    for index, ((row, line), name) in enumerate(zip(rows, names, strict=True)):
        look = pen(versus.index(name) if versus else index)
        _draw_line(ax, line, look, labels[name], shade=shade)
        if 1 < row.n <= FEW_SEEDS:
            for seed in row.seeds:
                points = track_of(episode_data.checkpoints[row.episodes[seed].id]).points
                ax.plot(
                    [asked for asked, _ in points],
                    [score for _, score in points],
                    linestyle="none",
                    marker=".",
                    markersize=2.5,
                    color=look.colour,
                    alpha=0.45,
                )


def _draw_crowd(ax: Axes, rows: Sequence[tuple[ScoreRow, Curve]]) -> None:
    """Draw all lines in grey, and two that tell how far apart defenders are with their names."""
    others = [(row, line) for row, line in rows if row.defender != CONTROL]
    least = min(others or rows, key=lambda one: one[1].scores[-1].mean)
    control = next((one for one in rows if one[0].defender == CONTROL), None)
    for row, line in rows:
        if row not in (least[0], control and control[0]):
            means = [score.mean for score in line.scores]
            alone = "." if len(means) == 1 else ""
            ax.plot(line.queries, means, color=PALE, linewidth=0.8, marker=alone)
    for place, one in enumerate(one for one in (control, least) if one is not None):
        row, line = one
        _draw_line(ax, line, pen(place), "")
        ax.annotate(
            short(row.versus, 20),
            (line.queries[-1], line.scores[-1].mean),
            textcoords="offset points",
            xytext=(-2, 5 if one is control else -9),
            ha="right",
            fontsize=6.5,
            color=pen(place).colour,
            path_effects=[withStroke(linewidth=2, foreground="white")],
            zorder=5,
        )


def _curve_of(row: ScoreRow, episode_data: EpisodeData) -> Curve:
    seeds = [episode_data.checkpoints.get(row.episodes[seed].id, ()) for seed in row.seeds]
    measured = (one.clone_accuracy for seed in seeds for one in seed)
    return curve(seeds, common_denominator(one for one in measured if one is not None))


def _draw_line(ax: Axes, line: Curve, pen: Pen, label: str, *, shade: float = 0.15) -> None:
    means = [score.mean for score in line.scores]
    if all(score.known for score in line.scores):
        lows = [score.low or 0.0 for score in line.scores]
        highs = [score.high or 0.0 for score in line.scores]
        ax.fill_between(line.queries, lows, highs, color=pen.colour, alpha=shade, linewidth=0)
    ax.plot(
        line.queries,
        means,
        color=pen.colour,
        linestyle=pen.dashes,
        marker=pen.marker,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=label or None,
        clip_on=False,
        zorder=3,
    )


def _finish(ax: Axes, episode_data: EpisodeData, *, title: str) -> None:
    """Add what the lines are to be read against: victim, chance, axes."""
    victims = [
        row.scores["victim_accuracy"].mean
        for row in episode_data.board
        if "victim_accuracy" in row.scores
    ]
    if victims:
        low, high = min(victims), max(victims)
        spread = percent(low) if high - low < 5e-4 else f"{percent(low)} to {percent(high)}"
        ax.axhspan(low, high, color=GREY, alpha=0.35, linewidth=0)
        ax.axhline(high, color=GREY, linewidth=1.2, label=f"victim, undefended ({spread})")
    guesses = {chance_level(episode) for episode in episode_data.episodes} - {None}
    if len(guesses) == 1:
        (guess,) = guesses
        assert guess is not None
        ax.axhline(
            guess, color=GREY, linewidth=1.2, linestyle=":", label=f"chance ({percent(guess)})"
        )
    ax.set_title(title)
    ax.set_xlim(left=0)
    ax.set_ylim(0, 1.02)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("queries")
    ax.set_ylabel("clone accuracy")
