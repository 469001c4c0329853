"""Plays an episode back from the log: drawn in a terminal, as plain lines in a pipe."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arena.analysis.timeline import TimelineStep, exits_text
from arena.cli.common import out
from arena.cli.keyboard import Keys, keyboard
from arena.cli.render import write_line, write_table
from arena.cli.thumbnails import drawn, latest
from arena.log.rows import Exits, added_exits
from arena.report.formatting import count_text, duration_text, percent

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from arena.log.rows import EpisodeRow
    from arena.recording.samples import Asked

LONGEST = 15.0
"""Seconds that a playback takes at most, unless a speed is given."""

_BLOCKS = " ▁▂▃▄▅▆▇█"
_WIDTH = 40


def show(
    row: "EpisodeRow",
    steps: Sequence[TimelineStep],
    asked: "Sequence[Asked]",
    path: Path | None,
    *,
    speed: float | None,
    step: bool,
) -> None:
    """Show an episode step by step.

    Args:
        row: the episode.
        steps: what to show.
        asked: its sample queries, where they were kept.
        path: where they lie.
        speed: times as fast as it was played; None: drawn within `LONGEST`, printed at once.
        step: wait for a key after every step.
    """
    console = out()
    write_line(console, f"{row.attacker} vs {row.defender}, seed {row.seed}: {row.status} "
                        f"({row.id}, scenario {row.scenario_name})")  # fmt: skip
    if not steps:
        write_line(console, "the log has no rounds of this episode")
        return
    with keyboard() as keys:
        if console.is_terminal:
            _draw(console, steps, asked, keys=keys, speed=speed, step=step)
        else:
            _print(console, steps, speed=speed)
    for event in steps[-1].events:
        if event.queries_used is None and console.is_terminal:
            write_line(console, f"{event.kind}: {event.message}")
    if row.error:
        write_line(console, row.error)
    write_line(console, f"clone {percent(row.clone_accuracy)} %, fidelity "
                        f"{percent(row.clone_fidelity)} %, benign users served "
                        f"{percent(row.served_accuracy)} %")  # fmt: skip
    if path is not None:
        lost = "" if path.is_file() else " (missing)"
        write_line(console, f"queries at each checkpoint, as NumPy arrays: {path}{lost}")


def _print(console: "Console", steps: Sequence[TimelineStep], *, speed: float | None) -> None:
    """Write a table at once, or a line at a time when it goes by a clock."""
    columns = ("queries", "after", "clone %", "attack exits %", "benign exits %", "events")
    rows = [_cells(moment) for moment in steps]
    if speed is None:
        write_table(console, columns, rows, right=columns[:3])
        return
    write_line(console, "\t".join(columns))
    no_keys, before = Keys(there=False), 0.0
    for moment, cells in zip(steps, rows, strict=True):
        no_keys.wait(max(0.0, moment.seconds - before) / speed)
        before = moment.seconds
        write_line(console, "\t".join(cells))


def _cells(moment: TimelineStep) -> tuple[str, ...]:
    clone = percent(moment.clone_accuracy) if moment.measured else ""
    return (
        count_text(moment.used),
        duration_text(moment.seconds),
        clone,
        exits_text(moment.attack_exits),
        exits_text(moment.benign_exits),
        "; ".join(f"{event.kind}: {event.message}" for event in moment.events),
    )


def _draw(
    console: "Console",
    steps: Sequence[TimelineStep],
    asked: "Sequence[Asked]",
    *,
    keys: Keys,
    speed: float | None,
    step: bool,
) -> None:
    """Draw step after step in place; space pauses, n shows the next step, q quits."""
    from rich.console import Group
    from rich.live import Live

    total = steps[-1].seconds
    factor = speed or max(1.0, total / LONGEST)
    stepping = step and keys.there
    before = 0.0
    with Live(console=console, auto_refresh=False) as live:
        for index, moment in enumerate(steps):
            scene = _scene(steps[: index + 1], paused=stepping, keys=keys.there)
            sample = latest(asked, moment.used) if console.color_system else None
            live.update(Group(scene, drawn(sample)) if sample else scene, refresh=True)
            key = keys.wait(None if stepping else max(0.0, moment.seconds - before) / factor)
            before = moment.seconds
            if key == "q":
                return
            if key == " ":
                stepping = not stepping
            elif key == "n":
                stepping = True


def _scene(steps: Sequence[TimelineStep], *, paused: bool, keys: bool) -> "RenderableType":
    """Draw one step: the budget, the clone so far, and the exits of the answers."""
    from rich.text import Text

    now = steps[-1]
    share = now.used / now.budget if now.budget else 0.0
    attack = added_exits(*(moment.attack_exits for moment in steps))
    benign = added_exits(*(moment.benign_exits for moment in steps))
    scores = [moment.clone_accuracy for moment in steps]
    lines = [
        f"budget  {_bar(share)} {percent(share)} % of {count_text(now.budget)}, "
        f"after {duration_text(now.seconds)}",
        f"clone   {_curve(scores)} {percent(now.clone_accuracy)} %",
        *_exit_lines("attack", now.attack_exits, attack),
        *_exit_lines("benign", now.benign_exits, benign),
    ]
    events = [event for moment in steps for event in moment.events][-5:]
    lines += [f"{event.kind}: {event.message}" for event in events]
    if keys:
        lines.append("space: continue   n: next   q: quit" if paused else "space: pause   q: quit")
    plain = ("".join(c if c.isprintable() else " " for c in line) for line in lines)
    return Text("\n".join(plain), no_wrap=True, overflow="ellipsis")


def _bar(share: float) -> str:
    full = round(min(max(share, 0.0), 1.0) * _WIDTH)
    return "█" * full + "░" * (_WIDTH - full)


def _curve(scores: Sequence[float | None]) -> str:
    """Draw accuracies from 0 to 1 as a row of blocks, as wide as the bar at most."""
    steps = max(1.0, len(scores) / _WIDTH)
    count = min(len(scores), _WIDTH)
    shown = [scores[int((index + 1) * steps) - 1] for index in range(count)]
    return "".join(" " if s is None else _BLOCKS[round(s * 8)] for s in shown).ljust(_WIDTH)


def _exit_lines(name: str, now: Exits, total: Exits) -> list[str]:
    """Draw a bar for each exit over the whole episode, and its share in the last step."""
    answered, lately = sum(map(sum, total)), sum(map(sum, now))
    if not answered:
        return []
    recent = added_exits(now, tuple((0,) * len(row) for row in total))
    places = [(defence, exit) for defence, row in enumerate(total) for exit in range(len(row))]
    several, head = len(total) > 1, places[0]
    return [
        f"{name if (defence, exit) == head else '':<6}  {_bar(total[defence][exit] / answered)} "
        f"{f'defence {defence + 1}, ' if several else ''}exit {exit + 1}: "
        f"{percent(total[defence][exit] / answered)} %, now "
        f"{percent(recent[defence][exit] / lately if lately else None)} %"
        for defence, exit in places
    ]
