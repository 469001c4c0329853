"""Reads single keys from a terminal, without waiting for Enter."""

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Keys:
    """The keyboard, or nothing where standard input is no terminal."""

    def __init__(self, *, there: bool) -> None:
        self.there = there

    def wait(self, seconds: float | None) -> str:
        """Return the key pressed within so many seconds, "" if none was; None waits for one."""
        if not self.there:
            time.sleep(seconds or 0)
            return ""
        ready, _, _ = select.select([sys.stdin], [], [], seconds)
        # past Python's buffer, which would hide further keys from `select`
        return os.read(sys.stdin.fileno(), 1).decode(errors="replace") if ready else ""


@contextmanager
def keyboard() -> Iterator[Keys]:
    """Take the keyboard key by key, and give it back as it was.

    Where there is no terminal, or none of this kind (Windows), no key is ever pressed.
    """
    try:
        import termios
        import tty
    except ImportError:
        yield Keys(there=False)
        return
    try:
        before = termios.tcgetattr(sys.stdin)
    except (termios.error, OSError, ValueError):  # a pipe, a file, a test's stand-in
        yield Keys(there=False)
        return
    tty.setcbreak(sys.stdin)
    try:
        yield Keys(there=True)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
