"""Draws where queries left the network: attackers' beside benign users'."""

import textwrap
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from arena.analysis.episode_data import EpisodeData, defence_names
from arena.analysis.intervals import Interval, mean_interval
from arena.log.rows import Exits, added_exits
from arena.report.plots.style import (
    COLOURS,
    HATCHES,
    Drawing,
    legend_below,
    named_in,
    outer_labels,
    percent,
    settings,
    sheet,
    short,
    shortened,
    whiskers,
)

FEW = 6
"""Panels that stand two in a row; more stand four in a row, and lower."""

SERIES = 4
"""More attackers than this are drawn as one."""

BENIGN = "benign users"

Shares = dict[str, dict[str, list[Interval]]]
"""By defender (and defence, where it deploys several) and by who asked: the share of each exit."""


class BarStyle(NamedTuple):
    """How one kind of traffic is drawn."""

    label: str
    colour: str
    hatch: str


def exit_shares(episode_data: EpisodeData) -> Shares:
    """Average over seeds which share of each kind of traffic left at which exit.

    A seed's shares are of all its queries, whichever defence answered; benign users' are pooled
    over the attackers.
    """
    attackers = list(dict.fromkeys(row.attack for row in episode_data.board))
    counts: dict[tuple[str, str], dict[int, list[Exits]]]
    counts = defaultdict(lambda: defaultdict(list))
    names: dict[str, list[str]] = {}
    for row in episode_data.board:
        name = row.attack if len(attackers) <= SERIES else f"{len(attackers)} attackers"
        for seed, episode in row.episodes.items():
            taken = episode_data.exits[episode.id]
            names[row.versus] = defence_names(episode, len(taken.attack))
            counts[row.versus, name][seed].append(taken.attack)
            counts[row.versus, BENIGN][seed].append(taken.benign)
    shares: Shares = defaultdict(dict)
    for (defender, who), seeds in counts.items():
        found = _shares_of_seeds(list(seeds.values()))
        for defence, scores in zip(names[defender], found, strict=False):
            panel = f"{defender}: {defence}" if len(names[defender]) > 1 else defender
            shares[panel][who] = scores
    return dict(shares)


def _shares_of_seeds(seeds: Sequence[Sequence[Exits]]) -> list[list[Interval]]:
    """Turn counts (seed, episode, defence, exit) into an interval for each defence and exit."""
    summed = [added_exits(*episodes) for episodes in seeds]
    summed = [counts for counts in summed if sum(map(sum, counts))]
    if not summed:
        return []
    widths = [len(row) for row in added_exits(*summed)]
    tables = [np.zeros((len(summed), width)) for width in widths]
    for index, counts in enumerate(summed):
        total = sum(map(sum, counts))
        for table, row in zip(tables, counts, strict=False):
            table[index, : len(row)] = np.array(row) / total
    return [[mean_interval(column.tolist()).within(0, 1) for column in table.T] for table in tables]


def draw_exits(episode_data: EpisodeData) -> Drawing | None:
    """Draw a histogram over exits for each defender; None where no exits were logged."""
    shares = exit_shares(episode_data)
    if not shares:
        return None
    seen = dict.fromkeys(who for series in shares.values() for who in series)
    # benign users first, so that they keep their colour whoever attacks
    order = sorted(seen, key=lambda who: who != BENIGN)
    labels = shortened(order, 34)
    looks = {
        who: _bar_style(labels[who], index + (BENIGN not in seen))
        for index, who in enumerate(order)
    }
    with settings():
        per_row, height = (2, 2.3) if len(shares) <= FEW else (4, 1.55)
        figure, axes = sheet(len(shares), per_row=per_row, height=height, sharey=True)
        for ax, (defender, series) in zip(axes, shares.items(), strict=True):
            ordered = {who: series[who] for who in order if who in series}
            _draw_panel(ax, ordered, looks, small=per_row > 2)
            title = textwrap.wrap(short(defender, 160 // per_row), 80 // per_row)
            ax.set_title("\n".join(title), fontsize=9.5 if per_row == 2 else 8)
        outer_labels(axes, per_row=per_row)
        for ax in axes:  # defenders may have different exits
            ax.tick_params(labelbottom=True)
        legend_below(figure, named_in(axes))
    first = "; ".join(
        f"{defender}: {who} {percent(found[0].mean)}"
        for defender, series in shares.items()
        for who, found in series.items()
    )
    return Drawing(
        "exits",
        "Where queries left the network",
        "Share of queries answered at each exit, averaged over seeds; whiskers are 95% intervals "
        "where there are several seeds. The last exit is the whole network. A defender that "
        "deploys several defences has a panel for each; shares are of all its queries.",
        f"Histograms over exits. Share that left at the first exit: {first}.",
        figure,
    )


def _bar_style(label: str, index: int) -> BarStyle:
    return BarStyle(label, COLOURS[index % len(COLOURS)], HATCHES[index % len(HATCHES)])


def _draw_panel(
    ax: Axes, series: dict[str, list[Interval]], looks: dict[str, BarStyle], *, small: bool
) -> None:
    width = 0.8 / len(series)
    for index, (who, found) in enumerate(series.items()):
        places = np.arange(len(found)) + (index - (len(series) - 1) / 2) * width
        means = [score.mean for score in found]
        bars = ax.bar(
            places,
            means,
            width * 0.94,
            label=looks[who].label,
            edgecolor="white",
            linewidth=0.5,
            color=looks[who].colour,
            hatch=looks[who].hatch,
        )
        _draw_whiskers(ax, places.tolist(), found)
        if not found[0].known and len(found) * len(series) <= 12:
            ax.bar_label(bars, [f"{100 * mean:.0f}" for mean in means], fontsize=7, padding=1)
    _finish(ax, exits=max(map(len, series.values())), small=small)


def _draw_whiskers(ax: Axes, places: list[float], found: list[Interval]) -> None:
    """Mark the intervals; an exit that all seeds took alike has none worth a mark."""
    wide = [
        (place, score)
        for place, score in zip(places, found, strict=True)
        if (score.half_width or 0) > 5e-4
    ]
    if wide:
        ax.errorbar(
            [place for place, _ in wide],
            [score.mean for _, score in wide],
            yerr=whiskers([score for _, score in wide]),
            fmt="none",
            ecolor="#333333",
            elinewidth=0.9,
            capsize=2,
        )


def _finish(ax: Axes, *, exits: int, small: bool) -> None:
    """Name the exits and the axes."""
    names = [str(number + 1) for number in range(exits - 1)]
    whole = "last" if small else "whole network"
    names.append(whole if small or exits == 1 else f"{exits}\n{whole}")
    ax.set_xticks(range(exits), names)
    ax.set_xlim(-0.6, exits - 0.4)
    ax.set_ylim(0, 1.06)
    ax.set_yticks(np.linspace(0, 1, 3 if small else 6))
    ax.grid(False, axis="x")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("exit")
    ax.set_ylabel("share of queries")
