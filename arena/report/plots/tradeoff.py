"""Draws what each defence buys and what it pays: copying against utility and compute."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from arena.analysis.episode_data import EpisodeData
from arena.analysis.intervals import Interval
from arena.analysis.scoreboard import ScoreRow, best, by_defender, over_attackers
from arena.report.plots.style import (
    PERCENT,
    Drawing,
    Pen,
    legend_below,
    pen,
    percent,
    settings,
    sheet,
    shortened,
    whiskers,
)

PLAIN_SIZE = 8.0
"""Points across a marker whose size says nothing."""


class MarkerStyle(NamedTuple):
    """How a defender is drawn: its pen, filled on the front, so many points across."""

    pen: Pen
    front: bool
    size: float


class Standing(NamedTuple):
    """Where a defender stands when the attack that suits it least comes.

    Attributes:
        defender: its name, with what tells it from others of the same name.
        attacker: who copied it best.
        clone, utility, compute: clone accuracy against that attacker, served accuracy, share of
            the whole network's compute that all answers took; None where not measured.
    """

    defender: str
    attacker: str
    clone: Interval
    utility: Interval | None
    compute: Interval | None

    @property
    def losses(self) -> tuple[float | None, float | None, float | None]:
        """What the defender wants little of: copying, errors towards benign users, compute."""
        errors = None if self.utility is None else 1 - self.utility.mean
        return self.clone.mean, errors, None if self.compute is None else self.compute.mean


def standings(board: Sequence[ScoreRow]) -> list[Standing]:
    """Place each defender by the attack that copied it best; those never copied are left out."""
    found = []
    for name, rows in by_defender(board).items():
        ranked = best(rows)
        if ranked:
            worst = ranked[0]
            found.append(
                Standing(
                    name,
                    worst.attacker,
                    worst.scores["clone_accuracy"],
                    over_attackers(rows, "served_accuracy"),
                    over_attackers(rows, "compute_share"),
                )
            )
    return found


def pareto(standings: Sequence[Standing]) -> list[bool]:
    """Tell who is on the front: no other loses no more in all three and less in one.

    What one of two defenders has no measurement of does not count between them.
    """
    return [not any(_beats(other, one) for other in standings) for one in standings]


def _beats(one: Standing, other: Standing) -> bool:
    pairs = [
        (a, b)
        for a, b in zip(one.losses, other.losses, strict=True)
        if a is not None and b is not None
    ]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def draw_tradeoff(episode_data: EpisodeData) -> Drawing | None:
    """Draw clone accuracy against utility and against compute; None without either."""
    places = standings(episode_data.board)
    sides: list[tuple[str, Callable[[Standing], Interval | None], str]] = [
        ("accuracy served to benign users", _utility, "better: up and left"),
        (
            "compute, share of the whole network",
            lambda place: place.compute,
            "better: down and left",
        ),
    ]
    sides = [side for side in sides if any(side[1](place) for place in places)]
    if not sides:
        return None
    front = pareto(places)
    with settings():
        figure, axes = sheet(len(sides), per_row=2, height=3.1)
        for ax, (label, read, hint) in zip(axes, sides, strict=True):
            for index, place in enumerate(places):
                height = read(place)
                if height is not None:
                    size = _size(place) if ax is axes[0] else PLAIN_SIZE
                    look = MarkerStyle(pen(index), front[index], size)
                    _draw_point(ax, place.clone, height, look)
            ax.set_title(hint, color="#595959", fontsize=8)
            ax.set_xlabel("clone accuracy, best attack")
            ax.set_ylabel(label)
            ax.xaxis.set_major_formatter(PERCENT)
            ax.yaxis.set_major_formatter(PERCENT)
            ax.margins(0.15)
            _widen(ax, accuracy=read is _utility)
        names = shortened((place.defender for place in places), 27)
        legend_below(
            figure,
            {
                names[place.defender] + ", on the front" * on_front: _handle(index, on_front)
                for index, (place, on_front) in enumerate(zip(places, front, strict=True))
            },
        )
    return Drawing(
        "tradeoff",
        "What a defence buys and what it pays",
        "Each defender against the attack that copied it best. Filled: on the Pareto front of "
        "clone accuracy, served accuracy and compute (no other defender is at least as good in "
        "all three). In the first panel the area of a marker is the compute, so that it shows all "
        "three. Whiskers are 95% intervals where there are several seeds.",
        "Scatter chart. " + " ".join(map(_sentence, places)),
        figure,
    )


def _sentence(place: Standing) -> str:
    text = f"{place.defender}: clone accuracy {percent(place.clone.mean)}"
    if place.utility is not None:
        text += f", served accuracy {percent(place.utility.mean)}"
    if place.compute is not None:
        text += f", compute {percent(place.compute.mean)}"
    return text + "."


def _size(place: Standing) -> float:
    """Give the diameter of a marker whose area goes with the compute; never too small to see."""
    if place.compute is None:
        return PLAIN_SIZE
    return 14 * math.sqrt(max(0.15, min(place.compute.mean, 1.5)))


def _draw_point(ax: Axes, across: Interval, up: Interval, look: MarkerStyle) -> None:
    ax.errorbar(
        across.mean,
        up.mean,
        xerr=whiskers([across]),
        yerr=whiskers([up]),
        fmt=look.pen.marker,
        color=look.pen.colour,
        markersize=look.size,
        markerfacecolor=look.pen.colour if look.front else "none",
        markeredgecolor=look.pen.colour,
        markeredgewidth=1.6,
        alpha=0.85,
        elinewidth=0.9,
        capsize=2,
        zorder=4 - look.size / 100,  # small ones lie on large ones
    )


def _widen(ax: Axes, *, accuracy: bool) -> None:
    """Show at least four points of each axis, so that small differences look small.

    Nothing above the whole is shown where an axis is an accuracy; compute may exceed it.
    """
    for limits, set_limits, capped in (
        (ax.get_xlim(), ax.set_xlim, True),
        (ax.get_ylim(), ax.set_ylim, accuracy),
    ):
        middle, half = sum(limits) / 2, (limits[1] - limits[0]) / 2
        low, high = middle - max(half, 0.02), middle + max(half, 0.02)
        set_limits(max(low, -0.02), min(high, 1.005) if capped else high)


def _utility(place: Standing) -> Interval | None:
    return place.utility


def _handle(index: int, front: bool) -> Line2D:
    look = pen(index)
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=look.marker,
        markersize=8,
        markerfacecolor=look.colour if front else "white",
        markeredgecolor=look.colour,
        markeredgewidth=1.6,
    )
