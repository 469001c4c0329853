"""Ctrl-C while others play: taken by a handler of ours, so that none is lost and none cuts twice.

An exception raised by a signal is lost where it falls into a destructor, and breaks off whatever
runs elsewhere; a handler that only takes a note does neither.
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` at every Ctrl-C, in place of raising; in the main thread, which alone hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: act())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def later() -> Iterator[None]:
    """Hold Ctrl-C back, for as long as this lasts; a process begun meanwhile never hears it.

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
