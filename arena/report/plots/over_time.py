"""Draws how exits, service and alarms change along the budget."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from arena.analysis.alarms import alarms_of
from arena.analysis.along_budget import SLICES, Slice, changes, early_share, right_share
from arena.analysis.episode_data import EpisodeData
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.scoreboard import by_defender
from arena.log.rows import EpisodeRow
from arena.report.formatting import counted
from arena.report.plots.exits import BENIGN, SERIES
from arena.report.plots.style import (
    COLOURS,
    GREY,
    Drawing,
    Pen,
    legend_below,
    named_in,
    pen,
    percent,
    settings,
    sheet,
    short,
    shortened,
)

PANELS = 12
"""Defenders that are drawn, those that change most; the frames have them all."""

USERS = Pen(GREY, (0, (1, 1.2)), "")
"""How benign users are drawn."""

Read = Callable[[Slice, EpisodeRow], float | None]


class Line(NamedTuple):
    """A share in each slice of the budget that has one: the slice, and its value of each seed."""

    places: tuple[int, ...]
    seeds: tuple[tuple[float, ...], ...]

    @property
    def means(self) -> list[float]:
        """The means over seeds."""
        return [float(np.mean(values)) for values in self.seeds]

    @property
    def scores(self) -> list[Interval]:
        """The means with their intervals."""
        return [mean_interval(values).within(0, 1) for values in self.seeds]


class Ticks(NamedTuple):
    """Where along the budget, 0 to 1, alarms were raised."""

    attack: tuple[float, ...]
    benign: tuple[float, ...]


class Change(NamedTuple):
    """What one defender did along the budget.

    Attributes:
        defender: its name.
        exits: by who asked, the share that left before the last exit.
        service: the share of benign answers that were right; None without benign users.
        alarms: of all its episodes.
        spread: how far the share that changes most does, 0 to 1.
    """

    defender: str
    exits: Mapping[str, Line]
    service: Line | None
    alarms: Ticks
    spread: float


def changes_of(episode_data: EpisodeData) -> list[Change]:
    """Find the defenders that do not do the same all along the budget."""
    found = []
    many = len({row.attack for row in episode_data.board}) > SERIES
    for defender, rows in by_defender(episode_data.board).items():
        groups: dict[str, list[EpisodeRow]] = {}
        for row in rows:
            who = "all attackers" if many else row.attack
            groups.setdefault(who, []).extend(row.episodes[seed] for seed in row.seeds)
        episodes = [one for row in rows for one in row.episodes.values()]
        exits = {
            who: line
            for who, theirs in groups.items()
            if (line := _line(episode_data, theirs, lambda part, _: early_share(part.attack)))
        }
        if line := _line(episode_data, episodes, lambda part, _: early_share(part.benign)):
            exits[BENIGN] = line
        service = _line(episode_data, episodes, right_share)
        ticks = _ticks(episode_data, episodes)
        spread = _spread(episode_data, exits, service, episodes)
        if spread or any(ticks):
            found.append(Change(defender, exits, service, ticks, spread))
    return sorted(found, key=lambda one: -one.spread)


def _line(episode_data: EpisodeData, episodes: Sequence[EpisodeRow], read: Read) -> Line | None:
    """Average a share over seeds, and in each seed over attackers, slice by slice."""
    values: dict[tuple[int, int], list[float]] = defaultdict(list)  # by slice and seed
    for episode in episodes:
        seed = episode.seed
        for place, part in episode_data.slices[episode.id].items():
            if (value := read(part, episode)) is not None:
                values[place, seed].append(value)
    if not values:
        return None
    seeds: dict[int, list[float]] = defaultdict(list)
    for (place, _), found in values.items():
        seeds[place].append(sum(found) / len(found))
    places = tuple(sorted(seeds))
    return Line(places, tuple(tuple(seeds[place]) for place in places))


def _ticks(episode_data: EpisodeData, episodes: Iterable[EpisodeRow]) -> Ticks:
    raised = [
        (alarm.queries / episode.budget, alarm.attacker)
        for episode in episodes
        for alarm in alarms_of(episode_data.events[episode.id])
        if alarm.queries is not None
    ]
    return Ticks(
        tuple(at for at, attacker in raised if attacker),
        tuple(at for at, attacker in raised if attacker is False),
    )


def _spread(
    episode_data: EpisodeData,
    exits: Mapping[str, Line],
    service: Line | None,
    episodes: Sequence[EpisodeRow],
) -> float:
    """Give the width of the widest change that is more than chance; 0 without one."""
    slices = [episode_data.slices[one.id] for one in episodes]
    parts = [part for each in slices for part in each.values()]
    places = len(set().union(*slices)) or 1
    benign = sum(part.answered for part in parts) / places
    attack = sum(sum(map(sum, part.attack)) for part in parts) / places
    attackers = max(1, len(exits) - (BENIGN in exits))
    lines = [(line, benign if who == BENIGN else attack / attackers) for who, line in exits.items()]
    lines += [(service, benign)] if service else []
    widths = [max(line.means) - min(line.means) for line, n in lines if changes(line.means, n)]
    return max(widths, default=0.0)


def draw_over_time(episode_data: EpisodeData) -> Drawing | None:
    """Draw a row for each defender that changes or raised alarms; None where none does."""
    found = changes_of(episode_data)
    if not found:
        return None
    who = dict.fromkeys(name for one in found for name in one.exits if name != BENIGN)
    pens = {name: pen(index) for index, name in enumerate(who)}
    labels = shortened(who, 30)
    served = any(one.service for one in found)
    columns = 2 if served else 1
    shown = found[:PANELS]
    with settings():
        figure, axes = sheet(
            columns * len(shown), per_row=columns, height=1.75, sharex=True, sharey=True
        )
        for index, one in enumerate(shown):
            left = axes[columns * index]
            for name, line in one.exits.items():
                _draw_line(left, line, pens.get(name, USERS), labels.get(name, name))
            left.set_title(f"{short(one.defender, 30)}: left before the last exit", fontsize=8.5)
            _draw_ticks(left, one.alarms)
            if served:
                right = axes[columns * index + 1]
                if one.service:
                    _draw_line(right, one.service, USERS, BENIGN)
                right.set_title("benign answers that are right", fontsize=8.5)
        _finish(axes, columns)
        legend_below(figure, named_in(axes))
    rest = {row.versus for row in episode_data.board} - {one.defender for one in shown}
    quiet = (
        f" {counted(len(rest), 'defender')} more: the same all along, or less change."
        if rest
        else ""
    )
    return Drawing(
        "over-time",
        "What changes along the budget",
        "Share of queries that left before the last exit of the network that answered, and of "
        "benign answers that are right, in twentieths of the budget: means over seeds with the "
        "band of their 95% interval. Triangles are alarms: above against the attacker, below "
        f"against benign clients.{quiet}",
        "Line charts along the budget. " + " ".join(map(_sentence, shown)),
        figure,
    )


def _draw_line(ax: Axes, line: Line, look: Pen, label: str) -> None:
    places = [(place + 0.5) / SLICES for place in line.places]
    scores = line.scores
    if all(score.known for score in scores):
        lows, highs = ([getattr(score, end) for score in scores] for end in ("low", "high"))
        ax.fill_between(places, lows, highs, color=look.colour, alpha=0.12, linewidth=0)
    ax.plot(
        places,
        line.means,
        color=look.colour,
        linestyle=look.dashes,
        marker=look.marker,
        markersize=3,
        label=label,
    )


def _draw_ticks(ax: Axes, ticks: Ticks) -> None:
    for places, height, marker, colour, label in (
        (ticks.attack, 1.06, "v", COLOURS[6], "alarm against the attacker"),
        (ticks.benign, -0.06, "^", COLOURS[4], "alarm against a benign client"),
    ):
        if places:
            ax.plot(
                places,
                np.full(len(places), height),
                linestyle="none",
                marker=marker,
                markersize=3.5,
                color=colour,
                alpha=0.5,
                clip_on=False,
                label=label,
            )


def _finish(axes: Sequence[Axes], columns: int) -> None:
    for index, ax in enumerate(axes):
        lowest = index + columns >= len(axes)
        ax.set_xlim(0, 1)
        ax.set_ylim(-0.1, 1.1)
        ax.set_yticks([0, 0.5, 1])
        ax.xaxis.set_major_formatter(PercentFormatter(1))
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.tick_params(labelbottom=lowest)
        if lowest:
            ax.set_xlabel("budget used")


def _sentence(one: Change) -> str:
    parts = [
        f"{who} from {percent(line.means[0])} to {percent(line.means[-1])}"
        for who, line in one.exits.items()
    ]
    parts.append(f"{len(one.alarms.attack)} alarms against the attacker, "
                 f"{len(one.alarms.benign)} against benign clients")  # fmt: skip
    return f"{one.defender}: {'; '.join(parts)}."
