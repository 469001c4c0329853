"""Declares what a pool of workers does, and the messages its workers send."""

from typing import Any, NamedTuple, Protocol

from arena.runner.task import Task


class Played(NamedTuple):
    """The end of a task: the episode's id, and whether the user interrupted it."""

    number: int
    episode_id: str
    interrupted: bool


class Message(NamedTuple):
    """A message of a worker.

    Attributes:
        worker: its number.
        name: a method of `arena.runner.progress.Watcher`; "played"; "fault" if the task raised;
            "died" if the worker is gone, and another one takes its number.
        arguments: of the method; a `Played`; or one line.
    """

    worker: int
    name: str
    arguments: tuple[Any, ...]  # Any: of any of the watcher's methods


class WorkerConfig(NamedTuple):
    """What every worker of a match needs.

    Attributes:
        run: the run that its episodes belong to.
        log_url: of the log it writes.
        devices: the workers take them in turn.
        record: an `arena.log.rows.RunRecord`, and `saving` an
            `arena.runner.saves.schedule.Saving`; their classes load torch, which a worker does
            only after it has set its threads.
    """

    run: str
    log_url: str
    devices: tuple[str, ...]
    record: Any
    saving: Any


class WorkerPool(Protocol):
    """Workers that play one task each at a time."""

    size: int
    """How many there are."""

    def assign(self, worker: int, task: Task) -> None:
        """Let a free worker play a task."""
        ...

    def receive(self, seconds: float) -> list[Message]:
        """Return the messages that arrive within so many seconds; at once if there are any."""
        ...

    def stop(self) -> None:
        """Ask every worker to close its episode as cancelled; each still sends "played"."""
        ...

    def close(self) -> None:
        """End all workers, those that still play too."""
        ...
