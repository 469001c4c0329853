"""Shows the progress of a match: live in a terminal, as plain lines in a pipe."""

import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arena.cli.common import err, is_live
from arena.cli.render import write_line
from arena.report.formatting import count_text, duration_text, percent
from arena.runner.progress import Progress, Watcher
from envs.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

EVERY = 5.0
"""Seconds between two lines about one episode in a pipe."""

CLONE_TRAINS = "training clone"
"""What an episode does once its budget is used up, until it is scored."""

Outcome = Callable[[str], float | None]
"""Gives the final clone accuracy of an episode by its id."""


@contextmanager
def watching(*, quiet: bool, outcome: Outcome = lambda episode_id: None) -> Iterator[Watcher]:
    """Yield the watcher that suits standard error, and close it afterwards."""
    if quiet:
        yield Watcher()
    elif is_live(err()):
        with _bars() as bars:
            yield LiveWatcher(bars, outcome)
    else:
        yield LineWatcher(outcome)


WIDE = 110
"""Columns of a terminal that has room for bars and speeds beside titles and what is done."""


BAR, PERCENTAGE, LEAST = 24, 6, 30
"""Characters of a bar, of a percentage with its spaces, and those that news have at least."""


class Pace:
    """Estimates how long a match still takes, from the episodes that ended."""

    def __init__(self) -> None:
        self._first = 0.0
        self._total = self._done = self._played = 0

    def begin(self, total: int) -> None:
        """Note that an episode begins, of so many."""
        self._total = total
        self._first = self._first or time.monotonic()

    def skip(self) -> None:
        """Note that an episode is skipped."""
        self._done += 1

    def end(self) -> None:
        """Note that an episode ended."""
        self._done += 1
        self._played += 1

    @property
    def text(self) -> str:
        """Where the match stands: "3 of 9, about 4 min 10 s left"."""
        if not self._total:
            return ""
        standing = f"{self._done} of {self._total}"
        left = self._total - self._done
        if not self._played or not left:
            return standing
        # workers play at once: the time between ends counts, not that of an episode
        each = (time.monotonic() - self._first) / self._played
        return f"{standing}, about {duration_text(round(each * left))} left"


class LineWatcher(Watcher):
    """Writes a line every few seconds, for pipes and files."""

    def __init__(self, outcome: Outcome = lambda episode_id: None) -> None:
        self._outcome, self._pace = outcome, Pace()
        self._spoken = 0.0
        self._topic = ""
        self._began: dict[str, float] = {}

    def line(self, text: str) -> None:
        """Write what is being prepared; of many lines on one topic, one every few seconds."""
        topic = text.partition(":")[0]
        if topic != self._topic or time.monotonic() - self._spoken >= EVERY:
            self._topic, self._spoken = topic, time.monotonic()
            self._say(f"  {text}")

    def begin(self, title: str, index: int, total: int) -> None:
        """Write that an episode starts."""
        self._began[title] = self._spoken = time.monotonic()
        self._pace.begin(total)
        self._say(f"[{index + 1}/{total}] {title}")

    def progress(self, title: str, progress: Progress) -> None:
        """Write the progress of an episode every few seconds."""
        if time.monotonic() - self._spoken >= EVERY:
            self._spoken = time.monotonic()
            done = progress.used / progress.budget
            share = f"{percent(done)} % of {count_text(progress.budget)}"
            told = standing(progress) if done < 1 else f"{CLONE_TRAINS}, {standing(progress)}"
            self._say(f"  {title}: {share}, {told}")

    def phase(self, title: str, phase: str) -> None:
        """Write what an episode does now, every few seconds."""
        if time.monotonic() - self._spoken >= EVERY:
            self._spoken = time.monotonic()
            self._say(f"  {title}: {phase}")

    def skip(self, title: str, episode_id: str) -> None:
        """Write that an episode is skipped."""
        self._pace.skip()
        self._say(f"{title}: skipped, the log has it as {episode_id}")

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Write the result of an episode."""
        fate = error or f"clone {percent(self._outcome(episode_id))} %"
        passed = duration_text(time.monotonic() - self._began.pop(title, time.monotonic()))
        self._pace.end()
        told = f"; {self._pace.text}" if self._pace.text else ""
        self._say(f"  {title}: {status} ({episode_id}), {fate}, {passed}{told}")

    def _say(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)


class LiveWatcher(Watcher):
    """Draws a bar over the episodes and one over the budget of each that runs; for terminals."""

    def __init__(self, bars: "Bars", outcome: Outcome = lambda episode_id: None) -> None:
        self._bars, self._outcome, self._pace = bars, outcome, Pace()
        self._match: TaskID = bars.add_task("getting ready", total=None, notes="")
        self._running: dict[str, TaskID] = {}

    def line(self, text: str) -> None:
        """Show what is being prepared, cut to what is free beside names and standing."""
        names = max(len(task.description) for task in self._bars.tasks)
        told = "; ".join(filter(None, (self._pace.text, printable(text))))
        width = self._bars.console.width
        free = width - names - PERCENTAGE - (BAR + 1 if width >= WIDE else 0)
        notes = textwrap.shorten(told, max(LEAST, free), placeholder=" …")
        self._bars.update(self._match, notes=notes)

    def begin(self, title: str, index: int, total: int) -> None:
        """Show that an episode starts."""
        self._pace.begin(total)
        self._bars.update(self._match, description="episodes", total=total, notes=self._pace.text)
        self._running[title] = self._bars.add_task(printable(title), total=None, notes="")

    def phase(self, title: str, phase: str) -> None:
        """Show what an episode does now."""
        if title in self._running:
            self._bars.update(self._running[title], notes=phase)

    def progress(self, title: str, progress: Progress) -> None:
        """Show the progress of an episode."""
        if title in self._running:
            self._bars.update(self._match, notes=self._pace.text)
            over = progress.used >= progress.budget
            self._bars.update(
                self._running[title],
                total=progress.budget,
                completed=progress.used,
                notes=f"{CLONE_TRAINS if over else 'attacking'}, {self._standing(progress)}",
            )

    def _standing(self, progress: Progress) -> str:
        return standing(progress, speed=self._bars.console.width >= WIDE)

    def skip(self, title: str, episode_id: str) -> None:
        """Show that an episode is skipped."""
        write_line(self._bars.console, f"{title}: skipped, the log has it as {episode_id}")
        self._pace.skip()
        self._bars.advance(self._match)

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Write the result of an episode above the bars."""
        fate = error or f"clone {percent(self._outcome(episode_id))} %"
        write_line(self._bars.console, f"{title}: {status} ({episode_id}), {fate}")
        if title in self._running:
            self._bars.remove_task(self._running.pop(title))
        self._pace.end()
        self._bars.update(self._match, advance=1, notes=self._pace.text)


def standing(progress: Progress, *, speed: bool = True) -> str:
    """Describe the clone's accuracy, the speed (unless left out) and the time left."""
    clone = (
        "not yet trained"
        if progress.clone_accuracy is None
        else f"{percent(progress.clone_accuracy)} %"
    )
    if progress.used >= progress.budget:  # how long a clone trains is the attacker's affair
        return f"clone {clone}"
    pace = f"{count_text(round(progress.queries_per_second))} queries/s, " if speed else ""
    return f"clone {clone}, {pace}{duration_text(progress.seconds_left)} left"


def _bars() -> "Bars":
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    console = err()
    return Bars(
        # where both do not fit, a name takes two lines, and what is done stays whole
        TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=False)),
        *([BarColumn(bar_width=BAR)] if console.width >= WIDE else []),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TextColumn("{task.fields[notes]}", markup=False),
        console=console,
        transient=True,
    )
