"""Draws players over all their opponents: interquartile means and performance profiles."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import PercentFormatter

from arena.analysis.aggregates import THRESHOLDS, Aggregate, aggregates_of
from arena.analysis.effects import CONTROL
from arena.analysis.episode_data import EpisodeData
from arena.report.plots.style import (
    COLOURS,
    PALE,
    PERCENT,
    Drawing,
    percent,
    settings,
    sheet,
    short,
    shortened,
    whiskers,
)


def draw_profiles(episode_data: EpisodeData) -> Drawing | None:
    """Draw both sides, a row for each; None where neither met three opponents on two seeds."""
    sides = [
        ("defenders over attackers", aggregates_of(episode_data.board, "defender")),
        ("attackers over defenders", aggregates_of(episode_data.board, "attacker")),
    ]
    sides = [(title, found) for title, found in sides if len(found) > 1]
    if not sides:
        return None
    heights = [max(2.0, 0.75 + 0.19 * len(found)) for _, found in sides]
    with settings():
        figure, axes = sheet(
            2 * len(sides),
            per_row=2,
            height=sum(heights) / len(sides),
            gridspec_kw={"height_ratios": heights, "width_ratios": (1, 1.15)},
        )
        for index, (title, found) in enumerate(sides):
            _draw_means(axes[2 * index], title, found)
            _draw_lines(axes[2 * index + 1], found)
    return Drawing(
        "profiles",
        "Players over all their opponents",
        "Left: interquartile mean of the clone accuracy over opponents and seeds (the mean of the "
        "middle half of the runs), with the 95% interval of a bootstrap stratified by opponent, "
        "test images counted in. Right: performance profiles, the share of runs with a clone "
        "accuracy above each value, with the interval of the two named. With few seeds a "
        "bootstrap interval is too narrow.",
        "Dot plots and line charts. "
        + " ".join(f"{one.player}: interquartile mean {percent(one.iqm.mean)}."
                   for _, found in sides for one in found),
        figure,
    )  # fmt: skip


def _draw_means(ax: Axes, title: str, found: Sequence[Aggregate]) -> None:
    names = list(shortened((one.player for one in found), 22).values())
    ax.errorbar(
        [one.iqm.mean for one in found],
        range(len(found)),
        xerr=whiskers([one.iqm for one in found]),
        linestyle="none",
        marker="o",
        markersize=4,
        color=COLOURS[0],
        elinewidth=1,
        capsize=2,
    )
    ax.set_yticks(range(len(found)), names, fontsize=8 if len(found) <= 10 else 7)
    ax.set_ylim(len(found) - 0.5, -0.5)
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PERCENT)
    ax.set_xlabel("interquartile mean of clone accuracy")
    ax.set_title(title, fontsize=8.5)


def _draw_lines(ax: Axes, found: Sequence[Aggregate]) -> None:
    """Draw all profiles in grey, and the control (or the highest) and the lowest with names."""
    control = next((one for one in found if one.player == CONTROL), found[-1])
    lowest = next(one for one in found if one is not control)
    for one in found:
        if one not in (control, lowest):
            ax.plot(THRESHOLDS, one.profile, color=PALE, linewidth=0.8)
    for place, one in enumerate((control, lowest)):
        ax.fill_between(THRESHOLDS, one.low, one.high, color=COLOURS[place], alpha=0.15, lw=0)
        ax.plot(THRESHOLDS, one.profile, color=COLOURS[place])
        at = int((one.profile >= 0.5).sum()) - 1
        ax.annotate(
            short(one.player, 24),
            (THRESHOLDS[max(0, at)], one.profile[max(0, at)]),
            textcoords="offset points",
            xytext=(5, 6) if one is control else (3, -12),
            fontsize=7,
            color=COLOURS[place],
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("clone accuracy above")
    ax.set_ylabel("share of runs")
