"""A pool of processes on this machine."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

from arena.runner.stopping import STOP
from arena.runner.task import Task
from arena.runner.workers.interrupts import interrupts_blocked
from arena.runner.workers.pool import Message, WorkerConfig

GRACE = 5.0
"""Seconds that a worker has to end by itself before it is killed."""


class _Worker(NamedTuple):
    process: BaseProcess
    pipe: "Connection[Any, Any]"


_Context = ForkServerContext | SpawnContext


class ProcessPool:
    """Processes with a pipe each; a dead one is replaced when it is next needed.

    Where all devices are CPUs and the system can fork, they are forked from a server that has
    imported what they need, once for all of them. Elsewhere each is spawned and imports it anew,
    because CUDA cannot be used after a fork.

    Args:
        size: how many.
        config: what they need.
    """

    def __init__(self, size: int, config: WorkerConfig) -> None:
        self.size, self._config = size, config
        cpus = all(device.startswith("cpu") for device in config.devices)
        if cpus and "forkserver" in multiprocessing.get_all_start_methods():
            self._context: _Context = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload(["arena.runner.workers.preload"])
        else:
            self._context = multiprocessing.get_context("spawn")
        self._workers: dict[int, _Worker] = {}

    def assign(self, worker: int, task: Task) -> None:
        """Send a task, to a new process where there is none."""
        if worker not in self._workers:
            self._workers[worker] = self._begin(worker)
        # the end of its pipe reports a worker that died just now
        with suppress(BrokenPipeError, ConnectionResetError):
            self._workers[worker].pipe.send(task)

    def _begin(self, number: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work, args=(number, self._config, theirs), name=f"arena-worker-{number}"
        )
        with interrupts_blocked():  # the process inherits the mask from its first moment
            process.start()
        theirs.close()  # the pipe then ends with the process
        return _Worker(process, ours)

    def receive(self, seconds: float) -> list[Message]:
        """Read the pipes; the end of a pipe means that its worker died."""
        numbers = {worker.pipe: number for number, worker in self._workers.items()}
        messages: list[Message] = []
        for pipe in wait(list(numbers), timeout=seconds):
            assert isinstance(pipe, Connection)
            messages += self._read(numbers[pipe], pipe)
        return messages

    def _read(self, number: int, pipe: "Connection[Any, Any]") -> Iterator[Message]:
        try:
            while pipe.poll():
                yield Message(number, *pipe.recv())
        except (EOFError, ConnectionResetError):
            process = self._workers.pop(number).process
            process.join()
            pipe.close()
            yield Message(number, "died", (_reason(process.exitcode),))

    def stop(self) -> None:
        """Ask every worker, by SIGTERM, to close its episode as cancelled."""
        for worker in self._workers.values():
            if worker.process.pid is not None and worker.process.is_alive():
                with suppress(ProcessLookupError):
                    os.kill(worker.process.pid, signal.SIGTERM)

    def close(self) -> None:
        """Ask all workers to end, and kill those that do not."""
        for worker in self._workers.values():
            with suppress(OSError):
                worker.pipe.send(None)
        for worker in self._workers.values():
            worker.process.join(GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers.clear()


def work(number: int, config: WorkerConfig, pipe: "Connection[Any, Any]") -> None:
    """Play the tasks that come through the pipe, until None; runs in a process of its own."""
    # Ctrl-C in a terminal reaches workers too, but the parent alone decides when to stop
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    STOP.once = True  # closing an episode must not be interrupted again
    signal.signal(signal.SIGTERM, STOP.handle)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGHUP})

    def send(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "progress":
            STOP.check()  # the first one was lost in a destructor: the episode plays on
        try:
            pipe.send((name, arguments))
        except OSError:  # the parent is gone
            STOP.note(signal.SIGTERM)
            raise KeyboardInterrupt from None

    from arena.runner.workers.worker import Worker
    from envs.errors import one_line

    try:
        worker = Worker(number, config, send)
        while (task := pipe.recv()) is not None:
            try:
                send("played", (worker.play(task),))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                send("fault", (one_line(error),))
    except (KeyboardInterrupt, EOFError):
        sys.exit(0)


def _reason(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
        return f"ended by {name}{hint}"
    return f"ended with exit code {exitcode}"
