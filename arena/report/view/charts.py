"""Draws an episode along its budget, as shapes that a page stretches to its own width.

Every chart is 1000 wide, which is the budget, and 100 high, which is everything: shares need no
other scale, and charts under each other show the same queries at the same place.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from arena.analysis.alarms import alarms_of
from arena.analysis.episode_data import defence_names
from arena.analysis.metrics import chance_level
from arena.analysis.timeline import TimelineStep
from arena.analysis.trained import trained_points
from arena.log.rows import CheckpointRow, EpisodeRow, EventRow, Exits
from arena.report.formatting import count_text, number, percent

WIDTH, HEIGHT = 1000, 100

SERIES = 8
"""Colours that a stacked chart has; further series share the last."""


REFUSED = "refused"
"""Stands in a chart of settings for the images that none of them answered."""


class Dot(NamedTuple):
    """A measured point, and what it says."""

    x: float
    y: float
    text: str


class Line(NamedTuple):
    """A curve: its style, its points for a polyline, and a dot for each measurement."""

    style: str
    points: str
    dots: Sequence[Dot]


class Bar(NamedTuple):
    """A part of a stacked bar, by the number of its colour."""

    x: float
    y: float
    width: float
    height: float
    colour: int
    text: str


class Tick(NamedTuple):
    """Something that happened at a place along the budget: its style, and what it says."""

    x: float
    style: str
    text: str


class Key(NamedTuple):
    """An entry of a legend: a colour or style, and what it stands for."""

    style: str
    text: str


@dataclass(frozen=True)
class Chart:
    """One chart of an episode.

    Attributes:
        title: above it.
        alt: what it shows, for those who do not see it.
        end: the budget, at its right end.
        keys: its legend.
        scale: whether 0 % and 100 % stand beside it.
    """

    title: str
    alt: str
    end: str
    keys: Sequence[Key]
    lines: Sequence[Line] = ()
    bars: Sequence[Bar] = ()
    ticks: Sequence[Tick] = ()
    scale: bool = True


def charts_of(
    row: EpisodeRow,
    steps: Sequence[TimelineStep],
    points: Sequence[CheckpointRow],
    events: Sequence[EventRow],
) -> list[Chart]:
    """Draw all of an episode that changes along its budget; what the log does not hold is absent.

    Args:
        row: the episode.
        steps: its buckets.
        points: its checkpoints.
        events: with its alarms.
    """
    found = [
        _clone(row, points),
        _exits(row, steps, "the attacker", lambda step: step.attack_exits),
        _exits(row, steps, "benign users", lambda step: step.benign_exits),
        _alarms(row, events),
        _settings(row, steps, "attack", "the attacker"),
        _settings(row, steps, "benign", "benign users"),
    ]
    return [chart for chart in found if chart is not None]


def _clone(row: EpisodeRow, points: Sequence[CheckpointRow]) -> Chart | None:
    """Draw accuracy and fidelity of the trained clone, over the chance level.

    One that is trained at the end is a point: what it would have been before is unknown.
    """
    points = trained_points(points)
    lines, keys = [], []
    for name in ("accuracy", "fidelity"):
        dots = [
            Dot(_x(row, point.queries_used), _y(value), _measured(name, point.queries_used, value))
            for point in points
            if (value := getattr(point, f"clone_{name}")) is not None
        ]
        if dots:
            lines.append(Line(name, " ".join(f"{dot.x},{dot.y}" for dot in dots), dots))
            keys.append(Key(name, f"clone {name}"))
    if not lines:
        return None
    level = chance_level(row)
    if level is not None:
        lines.append(Line("chance", f"0,{_y(level)} {WIDTH},{_y(level)}", ()))
        keys.append(Key("chance", f"a guess, {percent(level)}%"))
    said = "; ".join(f"{line.style}: {line.dots[-1].text}" for line in lines if line.dots)
    return Chart("Clone", f"Curves over the budget. Last, {said}.", _end(row), keys, lines=lines)


def _measured(name: str, used: int, value: float) -> str:
    return f"{name} {number(value, 'share')} after {count_text(used)} queries"


def _exits(
    row: EpisodeRow, steps: Sequence[TimelineStep], whom: str, read: Callable[[TimelineStep], Exits]
) -> Chart | None:
    """Draw at which exits answers left, bucket by bucket."""
    names = defence_names(row, max((len(read(step)) for step in steps), default=0))
    counted = [
        {
            _exit_name(row, names, defence, exit): float(count)
            for defence, exits in enumerate(read(step))
            for exit, count in enumerate(exits)
        }
        for step in steps
    ]
    return _stacked(row, steps, counted, f"Exits of answers to {whom}")


def _exit_name(row: EpisodeRow, names: Sequence[str], defence: int, exit: int) -> str:
    """Name an exit by its number and its place in the network, as far as that is known."""
    exits = row.exit_names or ()
    place = exits[defence][exit : exit + 1] if defence < len(exits) else ()
    name = f"exit {exit + 1}" + (f" ({place[0]})" if place else "")
    return f"{names[defence]}, {name}" if len(names) > 1 else name


def _settings(row: EpisodeRow, steps: Sequence[TimelineStep], side: str, whom: str) -> Chart | None:
    """Draw which settings of the defender answered and what it refused, bucket by bucket.

    None where one setting answered all.
    """
    names = defence_names(row, len(row.exit_names or ()) or 1)
    counted: list[dict[str, float]] = []
    for step in steps:
        told, found = step.countermeasure.get(side), dict[str, float]()
        for one in told if isinstance(told, list) else ():
            defence, strength, answered = (_number(one, key) for key in _SETTING)
            place = int(defence)
            name = names[place] if place < len(names) else f"defence {place + 1}"
            found[f"{name} at {strength:g}"] = found.get(f"{name} at {strength:g}", 0) + answered
        found["others"] = _number(step.countermeasure, f"{side}_others")
        found[REFUSED] = _number(step.countermeasure, f"{side}_refused")
        counted.append({name: count for name, count in found.items() if count})
    names_seen = {name for one in counted for name in one}
    if len(names_seen) < 2 and REFUSED not in names_seen:
        return None
    return _stacked(row, steps, counted, f"Countermeasures to {whom}, with their strength")


_SETTING = ("defence", "strength", "answered")


def _number(entry: object, key: str) -> float:
    """Read a number that a log tells; 0 where it tells none."""
    value = entry.get(key) if isinstance(entry, Mapping) else None
    usable = isinstance(value, int | float) and 0 <= value < 1e18
    return float(value) if usable else 0.0  # type: ignore[arg-type]


def _stacked(
    row: EpisodeRow,
    steps: Sequence[TimelineStep],
    counted: Sequence[Mapping[str, float]],
    title: str,
) -> Chart | None:
    """Draw shares of what was counted in each bucket, on top of each other.

    Args:
        row: the episode.
        steps: its buckets.
        counted: in each of them, by the name of the series.
        title: of the chart.
    """
    totals: dict[str, float] = {}
    for one in counted:
        for name, count in one.items():
            totals[name] = totals.get(name, 0) + count
    every = sum(totals.values())
    if not every:
        return None
    bars, begin = [], 0.0
    for step, one in zip(steps, counted, strict=True):
        end, bottom, answered = _x(row, step.used), float(HEIGHT), sum(one.values())
        for place, name in enumerate(totals):
            if one.get(name):
                height = HEIGHT * one[name] / answered
                bottom -= height
                share = f"{name}: {percent(one[name] / answered)}%"
                text = f"{share} until {count_text(step.used)} queries"
                bars.append(Bar(round(begin, 2), round(bottom, 2), round(end - begin, 2),
                                round(height, 2), min(place, SERIES - 1), text))  # fmt: skip
        begin = end
    shares = {name: f"{name}: {percent(count / every)}%" for name, count in totals.items()}
    keys = [Key(f"c{min(n, SERIES - 1)}", text) for n, text in enumerate(shares.values())]
    alt = f"Shares over the budget; of all: {'; '.join(shares.values())}."
    return Chart(title, alt, _end(row), keys, bars=bars)


def _alarms(row: EpisodeRow, events: Sequence[EventRow]) -> Chart | None:
    """Draw when alarms were raised, and of whom."""
    alarms = [alarm for alarm in alarms_of(events) if alarm.queries is not None]
    if not alarms:
        return None
    ticks: dict[tuple[float, str], Tick] = {}
    for alarm in alarms:
        style = "attacker" if alarm.attacker else "benign"
        text = f"{_FLAGGED[alarm.attacker]} flagged after {count_text(alarm.queries)} queries"
        x = _x(row, alarm.queries or 0)
        ticks.setdefault((round(x), style), Tick(x, style, text))  # no more than a pixel shows
    counts = [sum(alarm.attacker is who for alarm in alarms) for who in (True, False, None)]
    keys = [
        Key(style, f"{count_text(count)} of {who}")
        for style, who, count in zip(
            ("attacker", "benign", "benign"),
            ("the attacker", "benign users", "unknown clients"),
            counts,
            strict=True,
        )
        if count
    ]
    alt = f"Alarms over the budget: {'; '.join(key.text for key in keys)}; {alarms[0].queries}"
    return Chart("Alarms", f"{alt} queries until the first.", _end(row), keys,
                 ticks=list(ticks.values()), scale=False)  # fmt: skip


_FLAGGED = {True: "attacker", False: "benign user", None: "client"}


def _x(row: EpisodeRow, used: int) -> float:
    """Place a number of queries along the budget."""
    share = used / row.budget if row.budget > 0 else 0.0
    return round(WIDTH * min(max(share, 0.0), 1.0), 2)


def _y(share: float) -> float:
    return round(HEIGHT * (1 - min(max(share, 0.0), 1.0)), 2)


def _end(row: EpisodeRow) -> str:
    return f"{count_text(row.budget)} queries"
