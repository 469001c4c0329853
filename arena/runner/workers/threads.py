"""Plays several episodes at once in one process: a thread and, on CUDA, a stream for each.

Small networks leave most of an accelerator idle; beside one another they fill it. Episodes share no
generator and no state but what is fixed before they begin, so that each is what it would be alone.
"""

import ctypes
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple, TypeVar

import torch

from arena.runner.task import Task
from arena.runner.workers.interrupts import on_interrupt

Result = TypeVar("Result")


class Ended(NamedTuple):
    """How a task's thread ended: with a result, or with what it raised."""

    task: Task
    result: object
    error: BaseException | None


def play_together(
    tasks: Sequence[Task],
    play: Callable[[Task], Result],
    *,
    count: int,
    device: torch.device,
) -> Iterator[tuple[Task, Result]]:
    """Play tasks in so many threads; yields each when it ends, in the order in which they end.

    An interrupt reaches the main thread alone. It is passed on to every thread, whose episode is
    closed as cancelled and yielded; no further task begins.

    Args:
        tasks: independent of one another.
        play: plays one; called in threads.
        count: threads.
        device: each thread has a stream of its own on it.

    Raises:
        BaseException: what `play` raised, once the other threads have ended.
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    ended: queue.SimpleQueue[Ended] = queue.SimpleQueue()
    computing = torch.get_num_threads()

    def work() -> None:
        torch.set_num_threads(computing)
        with _own_stream(device), suppress(KeyboardInterrupt):  # told between two tasks
            while True:
                try:
                    task = waiting.get_nowait()
                except queue.Empty:
                    return
                try:
                    ended.put(Ended(task, play(task), None))
                except BaseException as error:  # told to the main thread
                    ended.put(Ended(task, None, error))

    threads = [
        threading.Thread(target=work, name=f"arena-episode-{number}", daemon=True)
        for number in range(min(count, len(tasks)))
    ]
    fault: BaseException | None = None
    told = False

    def pass_on() -> None:
        nonlocal told
        if not told:  # once, as they have to close episodes
            told = True
            _empty(waiting)
            _interrupt(threads)

    with _steady_precision(device), on_interrupt(pass_on):
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads) or not ended.empty():
            try:
                task, result, error = ended.get(timeout=0.1)
            except queue.Empty:
                continue
            if error is None:
                yield task, result  # type: ignore[misc]  # a result where there was no error
            else:
                fault = fault or error
                _empty(waiting)
    if fault is not None:
        raise fault


def _empty(waiting: "queue.SimpleQueue[Task]") -> None:
    while True:
        try:
            waiting.get_nowait()
        except queue.Empty:
            return


def _interrupt(threads: Sequence[threading.Thread]) -> None:
    """Raise KeyboardInterrupt in threads, as Ctrl-C does in the main one."""
    for thread in threads:
        if thread.is_alive() and thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
            )


@contextmanager
def _own_stream(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.default_stream(device))
    with torch.cuda.device(device), torch.cuda.stream(stream):
        yield


@contextmanager
def _steady_precision(device: torch.device) -> Iterator[None]:
    """Keep cuDNN from TF32 throughout: it is one switch for all threads, so none may turn it."""
    before = torch.backends.cudnn.allow_tf32
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
