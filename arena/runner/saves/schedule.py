"""Decides when an episode is saved, and what becomes of a save that fails."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from arena.runner.saves.store import SaveStore
from arena.runner.stopping import STOP
from envs.errors import SaveError

SECONDS = 30.0
"""Between two saves, at least."""

SHARE = 0.02
"""Of an episode's time that saving may take: large states are saved more rarely."""


@dataclass(frozen=True, slots=True)
class Saving:
    """How a match saves its episodes.

    Attributes:
        seconds: between two saves, at least; 0 saves nothing.
        share: of an episode's time that saving may take.
        resume: whether earlier attempts are gone on with.
    """

    seconds: float = SECONDS
    share: float = SHARE
    resume: bool = True


USUAL = Saving()
"""How a match saves unless told otherwise."""


class Saver:
    """Saves one episode at safe points, not too often.

    Args:
        store: where saves lie; None saves nothing.
        saving: how often.
        save: puts a save on the store.
        complain: is told once why no save can be made.
    """

    def __init__(
        self,
        store: SaveStore | None,
        saving: Saving,
        *,
        save: Callable[[SaveStore], None],
        complain: Callable[[str], None],
    ) -> None:
        self._store = store if saving.seconds > 0 else None
        self._saving, self._save, self._complain = saving, save, complain
        self._next = time.monotonic() + saving.seconds

    def safe_point(self) -> None:
        """Save if it is time or the run stops; called between two steps of the attacker.

        Raises:
            KeyboardInterrupt: the run was told to stop.
        """
        if self._store is None:
            return
        stops = STOP.at_safe_point()
        if stops or time.monotonic() >= self._next:
            self._save_now(self._store)
        if stops:
            STOP.interrupt()

    def _save_now(self, store: SaveStore) -> None:
        began = time.monotonic()
        try:
            self._save(store)
        except (SaveError, OSError) as error:
            self._store = None
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self._complain(f"the episode cannot be saved and would start afresh: {reason}")
            return
        now = time.monotonic()
        self._next = now + max(self._saving.seconds, (now - began) / self._saving.share)
