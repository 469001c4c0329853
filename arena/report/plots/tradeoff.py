"""Draws what each defence buys and what it pays: copying against utility and compute."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from arena.analysis.episode_data import EpisodeData
from arena.analysis.front import FrontState, Standing, front, standings
from arena.analysis.intervals import Interval
from arena.analysis.pooled import over_attackers
from arena.report.plots.style import (
    COLOURS,
    GREY,
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

_SAID: dict[FrontState, str] = {"on": ", on the front", "undecided": ", undecided", "off": ""}

PLAIN_SIZE = 8.0
"""Points across a marker whose size says nothing."""

SHAPES = 8
"""More defenders than this are told apart by a number and not by their shape."""


class MarkerStyle(NamedTuple):
    """How a defender is drawn: its pen, how far filled, so many points across."""

    pen: Pen
    state: FrontState
    size: float

    @property
    def filling(self) -> dict[str, Any]:  # Any: properties of a matplotlib line
        """Fill it on the front, leave it empty off the front, and fill one half if undecided."""
        colour = self.pen.colour
        return {
            "marker": self.pen.marker,
            "markersize": self.size,
            "markerfacecolor": "white" if self.state == "off" else colour,
            "markerfacecoloralt": "white",
            "fillstyle": "left" if self.state == "undecided" else "full",
            "markeredgecolor": colour,
            "markeredgewidth": 1.6,
        }


class Place(NamedTuple):
    """What is drawn of a defender; None where not measured.

    Attributes:
        defender: its name, with what tells it from others of the same name.
        clone: clone accuracy against the attacker that copied it best.
        utility, compute: served accuracy, and the share of the whole network's compute that all
            answers took, both over all attackers.
    """

    defender: str
    clone: Interval
    utility: Interval | None
    compute: Interval | None


def _place(standing: Standing) -> Place:
    return Place(
        standing.defender,
        standing.worst.scores["clone_accuracy"],
        over_attackers(standing.rows, "served_accuracy"),
        over_attackers(standing.rows, "compute_share"),
    )


def draw_tradeoff(episode_data: EpisodeData) -> Drawing | None:
    """Draw clone accuracy against utility and against compute; None without either."""
    found = standings(episode_data.board)
    places = list(map(_place, found))
    sides: list[tuple[str, Callable[[Place], Interval | None], str]] = [
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
    states = front(found)
    with settings():
        figure, axes = sheet(len(sides), per_row=2, height=3.1)
        for ax, (label, read, hint) in zip(axes, sides, strict=True):
            for index, place in enumerate(places):
                height = read(place)
                if height is not None:
                    if len(places) > SHAPES:
                        _draw_number(ax, place.clone, height, index, states[index])
                        continue
                    size = _size(place) if ax is axes[0] else PLAIN_SIZE
                    look = MarkerStyle(pen(index), states[index], size)
                    _draw_point(ax, place.clone, height, look)
            ax.set_title(hint, color=GREY, fontsize=8)
            ax.set_xlabel("clone accuracy, best attack")
            ax.set_ylabel(label)
            ax.xaxis.set_major_formatter(PERCENT)
            ax.yaxis.set_major_formatter(PERCENT)
            ax.margins(0.15)
            _widen(ax, accuracy=read is _utility)
        legend_below(figure, _legend(places, states))
    return Drawing(
        "tradeoff",
        "What a defence buys and what it pays",
        "Each defender against the attack that copied it best. "
        + (_NUMBERS if len(places) > SHAPES else _SHAPES)
        + " Whiskers are 95% intervals where there are several seeds.",
        "Scatter chart. " + " ".join(map(_sentence, places, states)),
        figure,
    )


_FRONT = (
    "on the Pareto front of clone accuracy, served accuracy and compute (no other defender is at "
    "least as good in all three)"
)
_OPEN = (
    "undecided, because the intervals of the paired differences, corrected for their number, "
    "leave it open"
)
_SHAPES = (
    f"Filled: {_FRONT}. Empty: off it. Half filled: {_OPEN}. In the first panel the area of a "
    "marker is the compute, so that it shows all three."
)
_NUMBERS = f"Number in white: {_FRONT}. In grey: off it. In black: {_OPEN}."


def _sentence(place: Place, state: FrontState) -> str:
    text = f"{place.defender}: clone accuracy {percent(place.clone.mean)}"
    if place.utility is not None:
        text += f", served accuracy {percent(place.utility.mean)}"
    if place.compute is not None:
        text += f", compute {percent(place.compute.mean)}"
    return f"{text}{_SAID[state]}."


def _size(place: Place) -> float:
    """Give the diameter of a marker whose area goes with the compute; never too small to see."""
    if place.compute is None:
        return PLAIN_SIZE
    return 14 * math.sqrt(max(0.15, min(place.compute.mean, 1.5)))


def _draw_cross(
    ax: Axes,
    across: Interval,
    up: Interval,
    **look: Any,  # Any: properties of matplotlib's error bars
) -> None:
    ax.errorbar(
        across.mean,
        up.mean,
        xerr=whiskers([across]),
        yerr=whiskers([up]),
        linestyle="none",
        **look,
    )


def _draw_point(ax: Axes, across: Interval, up: Interval, look: MarkerStyle) -> None:
    _draw_cross(
        ax,
        across,
        up,
        color=look.pen.colour,
        **look.filling,
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


def _utility(place: Place) -> Interval | None:
    return place.utility


def _legend(places: Sequence[Place], states: Sequence[FrontState]) -> dict[str, Artist]:
    names = shortened((place.defender for place in places), 27)
    handles: dict[str, Artist] = {}
    for index, (place, state) in enumerate(zip(places, states, strict=True)):
        name = names[place.defender] + _SAID[state]
        if len(places) > SHAPES:
            handles[f"{index + 1}  {name}"] = Line2D([], [], linestyle="none", **_disc(state))
        else:
            look = MarkerStyle(pen(index), state, PLAIN_SIZE)
            handles[name] = Line2D([], [], linestyle="none", **look.filling)
    return handles


def _draw_number(ax: Axes, across: Interval, up: Interval, index: int, state: FrontState) -> None:
    """Draw a disc with the defender's number in it, and thin whiskers behind all discs."""
    _draw_cross(ax, across, up, ecolor="#C4C4C4", elinewidth=0.7, zorder=1)
    ax.plot(across.mean, up.mean, linestyle="none", zorder=3, **_disc(state))
    ax.text(
        across.mean,
        up.mean,
        str(index + 1),
        ha="center",
        va="center",
        fontsize=6.5,
        color=_LETTERS[state],
        zorder=3,
        clip_on=True,
    )


_FACES: dict[FrontState, str] = {"on": COLOURS[0], "undecided": "white", "off": "#E3E3E3"}
_LETTERS: dict[FrontState, str] = {"on": "white", "undecided": "black", "off": GREY}


def _disc(state: FrontState) -> dict[str, Any]:  # Any: properties of a matplotlib line
    return {
        "marker": "o",
        "markersize": 11,
        "markerfacecolor": _FACES[state],
        "markeredgecolor": COLOURS[0] if state != "off" else "#8C8C8C",
        "markeredgewidth": 0.9,
    }
