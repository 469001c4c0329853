"""Keeps a player's code from ending the whole process by `os._exit`.

Imports nothing heavy: the command line loads it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

end_process = os._exit
"""Python's own, for whoever really means it."""


@contextmanager
def staying() -> Iterator[None]:
    """Let `os._exit` raise SystemExit in this process, which ends an episode or fails a claim."""
    before, here = os._exit, os.getpid()

    def refused(status: int) -> NoReturn:
        if os.getpid() != here:  # a process that the player started
            end_process(status)
        raise SystemExit(f"os._exit({status!r})")

    os._exit = refused
    try:
        yield
    finally:
        os._exit = before
