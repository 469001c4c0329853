"""Draws what a timing probe saw on the clock, and what it took that for."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from arena.analysis.episode_data import EpisodeData
from arena.analysis.scoreboard import ScoreRow
from arena.report.plots.style import (
    COLOURS,
    GREY,
    PERCENT,
    Drawing,
    legend_below,
    named_in,
    settings,
    sheet,
    short,
)

LATENCIES = "latencies"
"""Kind of the events, as `agents.timing_probe.log_record` names it; that module would bring
torch along."""

PANELS = 16
"""Meetings that are drawn; a table in the report has them all."""


class LatencyHistogram(NamedTuple):
    """What one probe saw.

    Attributes:
        edges: (bins + 1) seconds, ascending.
        counts: images between them.
        exits: seconds of the exits it told apart, ascending.
        certainty: its belief in their number, 0 to 1.
        repeats: how often each image was asked.
    """

    edges: Sequence[float]
    counts: Sequence[int]
    exits: Sequence[float]
    certainty: float
    repeats: int


class Timed(NamedTuple):
    """A meeting in which the clock was read.

    Attributes:
        row: who met.
        shown: of the first seed.
        found: exits told apart, seed by seed.
        existing: exits that there are; None where that was not written down.
        visited: exits that queries left at and a clock can tell apart, over the seeds; likewise.
    """

    row: ScoreRow
    shown: LatencyHistogram
    found: tuple[int, ...]
    existing: int | None
    visited: tuple[int, ...]


def timed_meetings(episode_data: EpisodeData) -> list[Timed]:
    """Find the meetings in which an attacker left a histogram of latencies."""
    meetings = []
    for row in episode_data.board:
        ids = [row.episodes[seed].id for seed in row.seeds]
        clocks = [
            clock for id in ids if (clock := _latency_histogram(episode_data, id)) is not None
        ]
        if clocks:
            found = tuple(len(clock.exits) for clock in clocks)
            existing = _truths(episode_data, ids, "exits")
            visited = _truths(episode_data, ids, "exits_visited")
            meetings.append(Timed(row, clocks[0], found, next(iter(existing), None), visited))
    return meetings


def _latency_histogram(episode_data: EpisodeData, id: str) -> LatencyHistogram | None:
    """Read the last note of a probe; one that another program garbled is as good as none."""
    notes = [event.data.get("data") for event in episode_data.events[id] if event.kind == LATENCIES]
    if not notes or not isinstance(note := notes[-1], Mapping):
        return None
    try:
        clock = LatencyHistogram(
            [float(edge) for edge in note["edges"]],
            [int(count) for count in note["counts"]],
            sorted(float(peak["seconds"]) for peak in note["exits"]),
            float(note["certainty"]),
            int(note["repeats"]),
        )
    except (KeyError, TypeError, ValueError):
        return None
    return clock if len(clock.edges) == len(clock.counts) + 1 and any(clock.counts) else None


def _truths(episode_data: EpisodeData, ids: Sequence[str], attribute: str) -> tuple[int, ...]:
    """Give the numbers that are the case for an attribute, over the seeds, each once."""
    truths = {
        row.truth
        for id in ids
        for row in episode_data.inferences[id]
        if row.attribute == attribute and isinstance(row.truth, int)
    }
    return tuple(sorted(truths))


def verdict(timed: Timed) -> str:
    """Say what the probe found, over the seeds, beside what is the case.

    A probe can only find exits that queries left at, which may be fewer than there are.
    """
    seeds = f"{len(timed.found)} seeds" if len(timed.found) > 1 else "1 seed"
    found = f"probe: {_or(timed.found)} exit{'' if set(timed.found) == {1} else 's'} ({seeds})"
    of = "" if timed.existing is None else f" of {timed.existing}"
    if timed.visited:
        return f"{found}; queries left at {_or(timed.visited)}{of}"
    return f"{found}; the network has {timed.existing}" if of else found


def _or(counts: Sequence[int]) -> str:
    return " or ".join(map(str, sorted(set(counts))))


def draw_latencies(episode_data: EpisodeData) -> Drawing | None:
    """Draw a histogram for each meeting whose clock was read; None where none was."""
    meetings = timed_meetings(episode_data)
    if not meetings:
        return None
    with settings():
        figure, axes = sheet(min(len(meetings), PANELS), per_row=2, height=2.05)
        for ax, timed in zip(axes, meetings, strict=False):
            _draw_panel(ax, timed)
        for index, ax in enumerate(axes):
            if index % 2:
                ax.set_ylabel("")
        legend_below(figure, named_in(axes))
    return Drawing(
        "latencies",
        "What the clock told",
        "How long answers took, as the timing attacker saw them with jitter averaged out: share of "
        "its images (first seed). Dashed: the exits it told apart. Beneath the names its verdict, "
        "beside how many of all exits queries left at and a clock can tell apart.",
        "Histograms of latencies. " + " ".join(f"{t.row.title}: {verdict(t)}." for t in meetings),
        figure,
    )


def _draw_panel(ax: Axes, timed: Timed) -> None:
    clock = timed.shown
    counts = np.asarray(clock.counts)
    shares = counts / counts.sum()
    ax.stairs(shares, clock.edges, fill=True, color=COLOURS[0], label="images asked")
    for index, seconds in enumerate(clock.exits):
        name = "exit told apart by the probe" if index == 0 else None
        ax.axvline(seconds, color=COLOURS[1], linestyle=(0, (4, 2)), linewidth=1.2, label=name)
    ax.set_xscale("log")
    ax.set_xlim(clock.edges[0], clock.edges[-1])
    wide = clock.edges[-1] > 2 * clock.edges[0]
    ax.xaxis.set_major_locator(
        LogLocator(base=10, subs=(1, 2, 3, 5), numticks=8) if wide else MaxNLocator(4)
    )
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter(EngFormatter(unit="s"))
    ax.set_ylim(bottom=0)
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter(PERCENT)
    ax.set_ylabel("share of images")
    ax.set_xlabel("latency")
    ax.set_title(f"{short(timed.row.title, 46)}\n{verdict(timed)}", fontsize=8, color=GREY)
