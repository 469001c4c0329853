"""What a pool of workers is, and what its workers say."""

from typing import Any, NamedTuple, Protocol

from arena.runner.task import Task


class Played(NamedTuple):
    """What a worker says of a task: the episode's id, and whether the user broke it off."""

    number: int
    episode_id: str
    interrupted: bool


class Message(NamedTuple):
    """What a worker says.

    Attributes:
        worker: its number.
        name: a method of `arena.runner.progress.Watcher`; "played"; "fault" where the task raised;
            "died" where the worker is gone, and another one has its number.
        arguments: of the method; a `Played`; or one line.
    """

    worker: int
    name: str
    arguments: tuple[Any, ...]  # Any: of any of the watcher's methods


class WorkerConfig(NamedTuple):
    """What every worker of a match is told once.

    Attributes:
        run: the run it plays for.
        log_url: where it writes.
        devices: shared out among the workers in turn.
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

    def give(self, worker: int, task: Task) -> None:
        """Let a worker that has nothing to do play a task."""
        ...

    def hear(self, seconds: float) -> list[Message]:
        """Return what was said, after at most so many seconds."""
        ...

    def stop(self) -> None:
        """Ask every worker to close its episode as cancelled; each still says "played"."""
        ...

    def close(self) -> None:
        """Send all workers home, those that still play too."""
        ...
