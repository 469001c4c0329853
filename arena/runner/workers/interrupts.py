"""Handles Ctrl-C while workers play, without an exception that could be lost or come twice.

Python drops an exception that a signal raises inside a destructor, and anywhere else it breaks off
the running code; a handler that only counts does neither.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from arena.runner.stopping import STOP, handled


@contextmanager
def on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at every Ctrl-C, SIGTERM or SIGHUP that counts, instead of raising."""

    def handle(number: int, frame: FrameType | None) -> None:
        if STOP.note(number):
            act()

    try:
        with handled(handle):
            yield
    finally:  # what this process plays later was not stopped; the exit code is remembered
        STOP.reset()


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread, and for good in processes that start meanwhile.

    Not on Windows, which has no signal masks.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
