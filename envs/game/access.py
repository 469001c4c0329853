"""Who may ask now: one query at a time, none while a clone is scored, none after the attack."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from envs.errors import QueryError

WAIT_SECONDS = 600.0
"""A query waits for another thread's, or for a score, at most so long."""


class Access:
    """Lets one query in at a time; the round and all observers run inside.

    A second query from the thread that is inside is refused: it comes from a clone that is being
    scored or from a hook of a player.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: int | None = None
        self._known: frozenset[int] | None = None  # threads older than the score being taken
        self._closed = False

    @property
    def busy(self) -> bool:
        """Whether a query is being answered, or a clone scored."""
        return self._inside is not None

    def enter(self) -> None:
        """Hold the game for one query, until `leave`.

        Raises:
            QueryError: the oracle is closed, or the query comes from within another one.
        """
        me = threading.get_ident()
        known = self._known
        if self._inside == me or (known is not None and me not in known):
            raise QueryError(
                "the oracle takes no query from within another one, nor from a clone that is "
                "being scored; ask from attack()"
            )
        closed = self._closed
        if not closed:
            self._hold(me)
            closed = self._closed  # perhaps since
            if closed:
                self.leave()
        if closed:
            raise QueryError(
                "the oracle is closed because the attack is over; ask before it returns"
            )

    def leave(self) -> None:
        """Let the next query in."""
        self._inside = None
        self._lock.release()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Refuse queries while a clone is scored; an attacker's other threads wait meanwhile."""
        me = threading.get_ident()
        # a thread that the clone starts must not wait: the clone may wait for it
        older = frozenset(sys._current_frames()) - {me}
        if self._inside == me:
            with self._refusing(older):
                yield
            return
        self._hold(me)
        try:
            with self._refusing(older):
                yield
        finally:
            self.leave()

    def close(self) -> None:
        """Refuse every further query; the query of another thread is finished first."""
        self._closed = True
        if self._inside != threading.get_ident() and self._lock.acquire(timeout=WAIT_SECONDS):
            self._lock.release()

    def _hold(self, me: int) -> None:
        if not self._lock.acquire(False) and not self._lock.acquire(timeout=WAIT_SECONDS):
            raise QueryError(f"waited {WAIT_SECONDS:.0f} seconds for the query of another thread")
        self._inside = me

    @contextmanager
    def _refusing(self, older: frozenset[int]) -> Iterator[None]:
        before, self._known = self._known, older
        try:
            yield
        finally:
            self._known = before
