"""Plays episodes beside one another: hands tasks to a pool, and keeps what its workers played.

A worker that dies takes nobody with it: its task is played again, from its last save where there is
one, and only a task that kills two workers is given up.
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
"""A task that so many workers died of is given up."""


class Lost(NamedTuple):
    """A task that was not played to its end, and why."""

    task: Task
    reason: str


class PoolResult(NamedTuple):
    """What a pool came to.

    Attributes:
        played: by the workers, in the order in which they ended.
        lost: given up.
        interrupted: whether the user broke off.
    """

    played: list[Played]
    lost: list[Lost]
    interrupted: bool


def play_in_workers(tasks: Sequence[Task], pool: WorkerPool, watcher: Watcher) -> PoolResult:
    """Play every task, and send the pool home.

    Args:
        tasks: independent of one another.
        pool: plays them.
        watcher: sees everything in one place.

    The first Ctrl-C closes what is played as cancelled; a second one does not wait for that.
    """
    board = _Board(tasks, pool, watcher)
    interrupts = 0

    def note() -> None:
        nonlocal interrupts
        interrupts += 1

    try:
        with on_interrupt(note):
            while board.busy and not interrupts:
                board.hand_out()
                board.hear()
            if interrupts:
                pool.stop()
                board.clear()
            while board.busy and interrupts < 2:
                board.hear(again=False)
    finally:
        pool.close()
    interrupted = bool(interrupts) or any(played.interrupted for played in board.played)
    return PoolResult(board.played, board.lost, interrupted)


class _Board:
    """Who plays what, and what is left to play."""

    def __init__(self, tasks: Sequence[Task], pool: WorkerPool, watcher: Watcher) -> None:
        self._pool, self._watcher = pool, watcher
        self._waiting = deque(tasks)
        self._playing: dict[int, Task] = {}
        self._deaths: Counter[int] = Counter()
        self.played: list[Played] = []
        self.lost: list[Lost] = []

    @property
    def busy(self) -> bool:
        """Whether anything is played, or waits to be."""
        return bool(self._waiting or self._playing)

    def hand_out(self) -> None:
        """Give every worker that has nothing to do a task."""
        for worker in range(self._pool.size):
            if worker not in self._playing and self._waiting:
                task = self._waiting.popleft()
                self._playing[worker] = task
                self._pool.give(worker, task)

    def clear(self) -> None:
        """Take back what was not handed out yet."""
        self._waiting.clear()

    def hear(self, *, again: bool = True) -> None:
        """Take in what the workers say; play a task again whose worker died, if `again`."""
        for message in self._pool.hear(POLL_SECONDS):
            self._take(message, again=again)

    def _take(self, message: Message, *, again: bool) -> None:
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

    def _fail(self, task: Task, reason: str, *, again: bool) -> None:
        """Play a task again whose worker died, or give it up."""
        self._deaths[task.number] += 1
        if again and self._deaths[task.number] < ATTEMPTS:
            self._watcher.line(f"{task.plan.title}: its worker was {reason}; playing it again")
            self._waiting.appendleft(task)
        else:
            self.lost.append(Lost(task, reason))
