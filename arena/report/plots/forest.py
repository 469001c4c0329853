"""Draws what each defence brings and costs, as differences from the undefended victim."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from arena.analysis.effects import KINDS, DefenceEffects, Effect, told_kinds
from arena.analysis.episode_data import EpisodeData
from arena.report.formatting import number
from arena.report.plots.style import (
    COLOURS,
    FEW_SEEDS,
    GREY,
    Drawing,
    legend_below,
    settings,
    sheet,
    shortened,
    whiskers,
)


class Series(NamedTuple):
    """How one kind of effect is drawn: its name in the legend, its colour and its marker."""

    kind: str
    label: str
    colour: str
    marker: str


PANELS: Sequence[tuple[str, str, tuple[Series, ...]]] = (
    (
        "copied less",
        "better: right",
        (
            Series("copied_less_best", "best attack of each seed", COLOURS[0], "o"),
            Series("copied_less_mean", "mean of the attacks", COLOURS[5], "D"),
        ),
    ),
    (
        "lost by benign users",
        "better: left",
        (Series("users_lose", "accuracy served", COLOURS[1], "s"),),
    ),
    (
        "compute",
        "better: left",
        (
            Series("attack_compute", "per attack query", COLOURS[2], "^"),
            Series("benign_compute", "per benign query", COLOURS[3], "v"),
        ),
    ),
)
"""What stands side by side: title, which way is good for the defender, and its kinds."""


def draw_forest(episode_data: EpisodeData) -> Drawing | None:
    """Draw the effects of every defender; None where there is no undefended victim beside them."""
    found = episode_data.effects
    kinds = told_kinds(found)
    panels = [
        (title, hint, drawn)
        for title, hint, series in PANELS
        if (drawn := [one for one in series if one.kind in kinds])
    ]
    if not panels:
        return None
    names = list(shortened((one.defender for one in found), 24).values())
    with settings():
        height = 0.95 + 0.32 * len(found)
        figure, axes = sheet(len(panels), per_row=3, height=height, sharey=True)
        engine = figure.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)
        engine.set(w_pad=0.12)  # inches: numbers at the ends of two axes stand apart
        legend = {}
        for ax, (title, hint, series) in zip(axes, panels, strict=True):
            for place, one in enumerate(series):
                _draw_series(ax, found, one, offset=0.17 * (2 * place - len(series) + 1))
                handle = Line2D([], [], linestyle="none", marker=one.marker, color=one.colour)
                legend[f"{title}: {one.label}" if len(series) > 1 else title] = handle
            _finish(ax, names, title=title, hint=hint)
        legend_below(figure, legend)
    return Drawing(
        "effects",
        "What each defence brings and costs",
        "The differences of the table with their intervals; filled where it has a star. Small "
        f"dots are single seeds, where there are {FEW_SEEDS} or fewer.",
        "Forest plot. " + " ".join(map(_sentence, found)),
        figure,
    )


def _draw_series(
    ax: Axes, found: Sequence[DefenceEffects], series: Series, *, offset: float
) -> None:
    for row, one in enumerate(found):
        effect = one.effects.get(series.kind)
        if effect is None:
            continue
        seeds = effect.gap.differences
        if len(seeds) <= FEW_SEEDS:
            ax.plot(
                [100 * seed for seed in seeds],
                [row + offset] * len(seeds),
                linestyle="none",
                marker=".",
                markersize=4,
                color=series.colour,
                alpha=0.6,
            )
        _draw_mean(ax, effect, series, height=row + offset)


def _draw_mean(ax: Axes, effect: Effect, series: Series, *, height: float) -> None:
    reach = whiskers([effect.interval])
    ax.errorbar(
        100 * effect.interval.mean,
        height,
        xerr=reach and [[100 * side[0]] for side in reach],
        linestyle="none",
        marker=series.marker,
        color=series.colour,
        markerfacecolor=series.colour if effect.shown else "white",
        markersize=5,
        elinewidth=1.1,
        capsize=2,
        zorder=3,
    )


def _finish(ax: Axes, names: Sequence[str], *, title: str, hint: str) -> None:
    ax.axvline(0, color=GREY, linewidth=1)
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.set_title(f"{title}\n{hint}", fontsize=8.5)
    ax.set_xlabel("points")
    low, high = ax.get_xlim()
    # a difference of a point looks small, and an interval of one seed's spread does not hide all
    ax.set_xlim(max(min(low, -2), -110), min(max(high, 2), 110))


def _sentence(one: DefenceEffects) -> str:
    told = (
        f"{KINDS[kind].heading} {number(effect.interval.mean, 'points')} points"
        for kind, effect in one.effects.items()
    )
    return f"{one.defender}: {', '.join(told)}."
