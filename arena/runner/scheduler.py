"""Assigns tasks to the workers of a pool and collects what they played.

A task whose worker died is played again, from its last save if there is one; a task of which two
workers died fails.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import NamedTuple

from arena.runner.progress import Watcher
from arena.runner.task import Task
from arena.runner.workers.interrupts import on_interrupt
from arena.runner.workers.pool import Message, Played, WorkerPool

POLL_SECONDS = 0.1

ATTEMPTS = 2
"""A task fails when so many of its workers died."""


class FailedTask(NamedTuple):
    """A task that was not played to its end, and why."""

    task: Task
    reason: str


class PoolResult(NamedTuple):
    """What the workers of a pool played.

    Attributes:
        played: in the order in which the tasks ended.
        failed: tasks that were not played to their end.
        interrupted: whether the user broke off.
    """

    played: list[Played]
    failed: list[FailedTask]
    interrupted: bool


def play_in_workers(
    tasks: Sequence[Task], pool: WorkerPool, watcher: Watcher, *, fail_fast: bool = False
) -> PoolResult:
    """Play every task, then close the pool.

    Args:
        tasks: independent of one another.
        pool: plays them.
        watcher: sees the progress of all workers.
        fail_fast: begin no task after one that failed.

    The first Ctrl-C closes running episodes as cancelled; a second one does not wait for that.
    """
    schedule = _Schedule(tasks, pool, watcher, fail_fast=fail_fast)
    interrupts = 0

    def count_interrupt() -> None:
        nonlocal interrupts
        interrupts += 1

    try:
        with on_interrupt(count_interrupt):
            while schedule.busy and not interrupts:
                schedule.assign()
                schedule.receive()
            if interrupts:
                pool.stop()
                schedule.clear()
            while schedule.busy and interrupts < 2:
                schedule.receive(again=False)
    finally:
        pool.close()
    interrupted = bool(interrupts) or any(played.interrupted for played in schedule.played)
    return PoolResult(schedule.played, schedule.failed, interrupted)


class _Schedule:
    """Which worker plays which task, and which tasks wait."""

    def __init__(
        self, tasks: Sequence[Task], pool: WorkerPool, watcher: Watcher, *, fail_fast: bool
    ) -> None:
        self._pool, self._watcher, self._fail_fast = pool, watcher, fail_fast
        self._waiting = deque(tasks)
        self._playing: dict[int, Task] = {}
        self._deaths: Counter[int] = Counter()
        self.played: list[Played] = []
        self.failed: list[FailedTask] = []

    @property
    def busy(self) -> bool:
        """Whether any task is played or waits."""
        return bool(self._waiting or self._playing)

    def assign(self) -> None:
        """Assign a task to every free worker."""
        for worker in range(self._pool.size):
            if worker not in self._playing and self._waiting:
                task = self._waiting.popleft()
                self._playing[worker] = task
                self._pool.assign(worker, task)

    def clear(self) -> None:
        """Drop the tasks that wait."""
        self._waiting.clear()

    def receive(self, *, again: bool = True) -> None:
        """Handle the workers' messages; play a task again whose worker died, if `again`."""
        for message in self._pool.receive(POLL_SECONDS):
            self._handle(message, again=again)

    def _handle(self, message: Message, *, again: bool) -> None:
        worker, name, arguments = message
        if name == "played":
            self._playing.pop(worker, None)
            self.played.append(arguments[0])
        elif name in ("fault", "died"):
            task = self._playing.pop(worker, None)
            if task is not None:
                self._fail(task, arguments[0], again=again and name == "died")
        else:
            getattr(self._watcher, name)(*arguments)
            if name == "end" and arguments[2] == "error":
                self._after_failure()

    def _after_failure(self) -> None:
        if self._fail_fast:
            self.clear()

    def _fail(self, task: Task, reason: str, *, again: bool) -> None:
        self._deaths[task.number] += 1
        if again and self._deaths[task.number] < ATTEMPTS:
            self._watcher.line(f"{task.plan.title}: its worker was {reason}; playing it again")
            self._waiting.appendleft(task)
        else:
            self.failed.append(FailedTask(task, reason))
            self._after_failure()
