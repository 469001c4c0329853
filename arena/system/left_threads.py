"""Threads that players left running: they cannot be ended, but a process need not wait for them.

Imports nothing heavy: the command line asks at its end.
"""

import atexit
import re
import sys
import threading
import weakref
from collections.abc import Collection
from contextlib import suppress

from arena.system.staying import end_process

SECONDS = 0.2
"""For which a thread is waited that may be about to end: the oracle is closed before."""

_left: "weakref.WeakSet[threading.Thread]" = weakref.WeakSet()


def running() -> frozenset[threading.Thread]:
    """List the threads that are alive, but for those of the arena and of progress bars."""
    return frozenset(
        one
        for one in threading.enumerate()
        if not one.name.startswith("arena-") and type(one).__name__ != "TMonitor"
    )


def name_of(thread: threading.Thread) -> str:
    """Name a thread without its number, which would differ from play to play."""
    return f"thread {re.sub(r'-[0-9]+', '', thread.name)[:60]}"


def left_since(before: Collection[threading.Thread]) -> frozenset[threading.Thread]:
    """List the threads that players left behind since then; who is about to end may do so."""
    for one in running().difference(before):
        one.join(SECONDS)
    left = running().difference(before)
    _left.update(left)
    return left


def end_without_them(code: int) -> None:
    """End the process at once where only they would keep it; return where none does."""
    waited = [one for one in _left if one.is_alive() and not one.daemon]
    if not waited:
        return
    print(f"arena: players left threads running ({len(waited)}); the process ends without them",
          file=sys.stderr)  # fmt: skip
    with suppress(Exception):  # functions for the end may be players' too
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    end_process(code)
