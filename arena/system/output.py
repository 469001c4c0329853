"""Keeps standard output for results: what players print goes to standard error."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send what players print to standard error: standard output holds results alone.

    What they write past `sys.stdout`, in C or in a child process, goes there too.
    """
    saved = _redirected_descriptor()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            _flush()
            os.dup2(saved, 1)
            os.close(saved)


def _redirected_descriptor() -> int | None:
    """Point descriptor 1 to standard error; return a copy of it, None where there is none."""
    _flush()
    try:
        saved = os.dup(1)
    except OSError:  # closed
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(saved)
        return None
    return saved


def _flush() -> None:
    for stream in (sys.stdout, sys.__stdout__):
        if stream is not None:
            with suppress(OSError, ValueError):  # closed, or nobody reads it
                stream.flush()
