"""Ends an attack that takes longer than its scenario allows."""

import ctypes
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from envs.game.rounds import Round

TIME_UP = "the attack took longer than its"
"""Begins the error of an episode whose attack took too long."""

AGAIN = 0.2
"""Seconds after which an attack that goes on is ended again."""


class TimeUp(BaseException):
    """The attack took too long; no `Exception`, so that attackers do not catch it by accident."""


class TimeLimit:
    """Raises `TimeUp` in the attack when its time is over, and again while it goes on.

    Args:
        seconds: how long it may take from now; None for ever.
        busy: whether the arena is at work for the attacker; what it writes is not broken off.
        once: do not raise again, because what is raised in does not catch it.

    Attributes:
        over: the time is up.
    """

    def __init__(
        self, seconds: float | None, busy: Callable[[], bool], *, once: bool = False
    ) -> None:
        self._seconds, self._busy, self._once = seconds, busy, once
        self.over = False
        self._running = False

    def on_round(self, round: Round) -> None:
        """Raise if the time was up while a query was answered.

        Raises:
            TimeUp: it is.
        """
        if self.over and self._running:
            self._running = not self._once
            raise TimeUp

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch what is done inside."""
        if self._seconds is None:
            yield
            return
        self._running = True
        main = threading.current_thread() is threading.main_thread()
        watch = self._by_signal if main and hasattr(signal, "setitimer") else self._by_thread
        try:
            with watch(max(self._seconds, 0.001)):
                yield
        finally:
            self._running = False

    @contextmanager
    def _by_signal(self, seconds: float) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)
        try:
            yield
        finally:
            self._running = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        self.over = True
        if self._running and not self._busy():
            self._running = not self._once
            raise TimeUp

    @contextmanager
    def _by_thread(self, seconds: float) -> Iterator[None]:
        """Do the same where signals do not arrive; a call that waits in C is not broken off."""
        thread, done = threading.get_ident(), threading.Event()

        def wait() -> None:
            end = time.monotonic() + seconds
            while not done.wait(max(0.0, end - time.monotonic())):
                self.over, end = True, time.monotonic() + AGAIN
                if self._running and not self._busy():
                    self._running = not self._once
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread), ctypes.py_object(TimeUp)
                    )

        watcher = threading.Thread(target=wait, name="arena-time-limit", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            self._running = False
            done.set()
            watcher.join()
