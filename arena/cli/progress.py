"""Shows the progress of a match: live in a terminal, as plain lines in a pipe."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from arena.cli.common import err
from arena.cli.render import write_line
from arena.report.formatting import count_text, duration_text, percent
from arena.runner.progress import Progress, Watcher
from envs.errors import printable

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

EVERY = 5.0
"""Seconds between two lines about one episode in a pipe."""

Outcome = Callable[[str], float | None]
"""Gives the final clone accuracy of an episode by its id."""


@contextmanager
def watching(*, quiet: bool, outcome: Outcome = lambda episode_id: None) -> Iterator[Watcher]:
    """Yield the watcher that suits standard error, and close it afterwards."""
    if quiet:
        yield Watcher()
    elif err().is_terminal:
        with _bars() as bars:
            yield LiveWatcher(bars, outcome)
    else:
        yield LineWatcher(outcome)


class LineWatcher(Watcher):
    """Writes a line every few seconds, for pipes and files."""

    def __init__(self, outcome: Outcome = lambda episode_id: None) -> None:
        self._outcome = outcome
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
        self._say(f"[{index + 1}/{total}] {title}")

    def progress(self, title: str, progress: Progress) -> None:
        """Write the progress of an episode every few seconds."""
        if time.monotonic() - self._spoken >= EVERY:
            self._spoken = time.monotonic()
            done = progress.used / progress.budget
            share = f"{percent(done)} % of {count_text(progress.budget)}"
            self._say(f"  {title}: {share}, {standing(progress)}")

    def skip(self, title: str, episode_id: str) -> None:
        """Write that an episode is skipped."""
        self._say(f"{title}: skipped, the log has it as {episode_id}")

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Write the result of an episode."""
        fate = error or f"clone {percent(self._outcome(episode_id))} %"
        passed = duration_text(time.monotonic() - self._began.pop(title, time.monotonic()))
        self._say(f"  {title}: {status} ({episode_id}), {fate}, {passed}")

    def _say(self, text: str) -> None:
        print(printable(text), file=sys.stderr, flush=True)


class LiveWatcher(Watcher):
    """Draws a bar over the episodes and one over the budget of each that runs; for terminals."""

    def __init__(self, bars: "Bars", outcome: Outcome = lambda episode_id: None) -> None:
        self._bars, self._outcome = bars, outcome
        self._match: TaskID = bars.add_task("getting ready", total=None, notes="")
        self._running: dict[str, TaskID] = {}

    def line(self, text: str) -> None:
        """Show what is being prepared."""
        self._bars.update(self._match, notes=printable(text))

    def begin(self, title: str, index: int, total: int) -> None:
        """Show that an episode starts."""
        self._bars.update(self._match, description="episodes", total=total)
        self._running[title] = self._bars.add_task(printable(title), total=None, notes="")

    def progress(self, title: str, progress: Progress) -> None:
        """Show the progress of an episode."""
        if title in self._running:
            self._bars.update(self._match, notes="")
            self._bars.update(
                self._running[title],
                total=progress.budget,
                completed=progress.used,
                notes=standing(progress),
            )

    def skip(self, title: str, episode_id: str) -> None:
        """Show that an episode is skipped."""
        write_line(self._bars.console, f"{title}: skipped, the log has it as {episode_id}")
        self._bars.advance(self._match)

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Write the result of an episode above the bars."""
        fate = error or f"clone {percent(self._outcome(episode_id))} %"
        write_line(self._bars.console, f"{title}: {status} ({episode_id}), {fate}")
        if title in self._running:
            self._bars.remove_task(self._running.pop(title))
        self._bars.advance(self._match)


def standing(progress: Progress) -> str:
    """Describe the clone's accuracy, the speed and the time left."""
    clone = (
        "not yet trained"
        if progress.clone_accuracy is None
        else f"{percent(progress.clone_accuracy)} %"
    )
    return (
        f"clone {clone}, "
        f"{count_text(round(progress.queries_per_second))} queries/s, "
        f"{duration_text(progress.seconds_left)} left"
    )


def _bars() -> "Bars":
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f}%", markup=False),
        TextColumn("{task.fields[notes]}", markup=False),
        console=err(),
        transient=True,
    )
