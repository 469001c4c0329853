"""Plays episodes in several local processes at once: a world each, one log for all."""

import multiprocessing
import os
import queue
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from arena.log.rows import RunRecord
from arena.saving.saver import Saving
from arena.tasks import Task
from arena.watch import Progress, Watcher
from envs.errors import ArenaError

if TYPE_CHECKING:
    from arena.world import World

POLL_SECONDS = 0.1


class Played(NamedTuple):
    """What a worker says of a task: the episode's id, and whether the user broke it off."""

    number: int
    episode_id: str
    interrupted: bool


class _Messenger(Watcher):
    """A watcher in a worker that passes everything on to the watcher of the parent."""

    def __init__(self, messages: Any) -> None:  # a queue of the spawn context
        self._messages = messages

    def line(self, text: str) -> None:
        self._messages.put(("line", (text,)))

    def begin(self, title: str, index: int, total: int) -> None:
        self._messages.put(("begin", (title, index, total)))

    def progress(self, title: str, progress: Progress) -> None:
        self._messages.put(("progress", (title, progress)))

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        self._messages.put(("end", (title, episode_id, status, error)))


_world: "World | None" = None
_messenger: _Messenger | None = None


def play_in_workers(
    tasks: Sequence[Task],
    *,
    workers: int,
    run: str,
    record: RunRecord,
    log_url: str,
    device: str,
    watcher: Watcher,
    saving: Saving,
) -> tuple[list[Played], bool]:
    """Play every task; returns what was played, and whether the user broke off.

    Each worker computes with one thread. A worker that is killed takes the tasks it had not
    finished with it, and the caller is told.

    Raises:
        ArenaError: a worker process died.
    """
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_start, initargs=(device, messages)
    )
    crew = _Crew(watcher)
    played: list[Played] = []
    interrupted = False
    futures = {pool.submit(_play, task, run, record, log_url, saving) for task in tasks}
    try:
        while futures:
            done, futures = wait(futures, timeout=POLL_SECONDS)
            crew.hear(messages)
            played += [_result(future) for future in done]
    except KeyboardInterrupt:
        interrupted = True
        for future in futures:
            future.cancel()
        crew.stop(messages)
        finished, _ = wait([future for future in futures if not future.cancelled()])
        played += [_result(future) for future in finished if future.exception() is None]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        crew.hear(messages)
    return played, interrupted or any(result.interrupted for result in played)


def _result(future: "Future[Played]") -> Played:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ArenaError(
            "a worker process died (killed, or out of memory); finished episodes are in the log; "
            "run again to play the rest, with fewer --workers if memory was short"
        ) from error


class _Crew:
    """The workers as the parent knows them: their process numbers, and what they say."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._processes: set[int] = set()

    def hear(self, messages: Any) -> None:
        """Let the parent's watcher hear what the workers said."""
        while True:
            try:
                name, arguments = messages.get_nowait()
            except queue.Empty:
                return
            if name == "ready":
                self._processes.update(arguments)
            else:
                getattr(self._watcher, name)(*arguments)

    def stop(self, messages: Any) -> None:
        """Ask every worker to close its episode as cancelled."""
        self.hear(messages)
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)


def _start(device: str, messages: Any) -> None:
    """Set a worker up: one thread, a world of its own."""
    global _world, _messenger
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from arena.world import World

    torch.set_num_threads(1)
    # Ctrl-C in a terminal reaches workers too, but the parent alone decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    messages.put(("ready", (os.getpid(),)))
    _messenger = _Messenger(messages)
    _world = World(torch.device(device), _messenger)


def _stop(number: int, frame: object) -> None:
    """Break the running episode off, once: closing it must not be broken off again."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def _play(task: Task, run: str, record: RunRecord, log_url: str, saving: Saving) -> Played:
    """Play one task in a worker."""
    from arena.log.store import Log
    from arena.playing import play_one

    assert _world is not None
    assert _messenger is not None
    _messenger.begin(task.plan.title, task.number, task.total)
    with Log.open(log_url) as log:
        row, interrupted = play_one(task.plan, _world, log, run=run, record=record, saving=saving)
    _messenger.end(task.plan.title, row.id, row.status, row.error)
    return Played(task.number, row.id, interrupted)
