"""Gives a sign of life in an episode's row while the episode is played.

Other machines cannot look for its process. They take an episode as left behind that is without a
sign of life for long by the clock of the database, and for some time by their own: a clock of the
day may jump, and then an episode that lives looks silent until its next sign.
"""

import threading
import weakref
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from envs.errors import LogError

BEAT_SECONDS = 30.0
"""Between two signs of life."""

STALE_SECONDS = 600.0
"""An episode without one for so long, by the clock of the database, may have been left behind."""

WATCH_SECONDS = 3 * BEAT_SECONDS
"""It was, once whoever wants to take it up has watched it for so long and seen none."""


class Beating(Protocol):
    """Writes an episode."""

    def beat(self) -> None:
        """Give one sign of life; raises LogError where it cannot be written now."""


class Heartbeat:
    """Beats from a thread of its own until it is stopped, or its owner is gone.

    Args:
        owner: gives the signs of life; it is not kept alive.
    """

    def __init__(self, owner: Beating) -> None:
        # An owner may go amid anything, in any thread and at the interpreter's end. A queue takes
        # a word even then, where the lock of an Event may be held by a thread that runs no more.
        self._stops = stops = SimpleQueue[None]()
        self._owner = weakref.ref(owner, lambda _: stops.put(None))
        threading.Thread(target=self._work, name="arena-heartbeat", daemon=True).start()

    def stop(self) -> None:
        """Beat no more; does not wait for a beat in progress."""
        self._stops.put(None)

    def _work(self) -> None:
        while not self._is_stopped():
            owner = self._owner()
            if owner is None:
                return
            with suppress(LogError):
                owner.beat()
            del owner  # else it would live until the next beat

    def _is_stopped(self) -> bool:
        """Wait for the next beat; tell whether none is due any more."""
        try:
            self._stops.get(timeout=BEAT_SECONDS)
        except Empty:
            return False
        return True
