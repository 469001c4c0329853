"""Ends a run by a signal: Ctrl-C, SIGTERM (Slurm, Kubernetes, systemd) or SIGHUP (a lost terminal).

The first signal waits for a safe point of the attacker, where its episode is saved, and without
safe points for the end of the round that is played, but not for long; then, and between rounds at
once, it raises KeyboardInterrupt. A second one raises at once, or ends the process where the
attacker went on after a KeyboardInterrupt.

Imports nothing heavy: workers and the command line load it first.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, TypeGuard

from arena.system.staying import end_process

if TYPE_CHECKING:
    from envs.game.rounds import Round

GRACE = 5.0
"""Seconds that a stop waits for a safe point or the end of a round; longer than `SAME`."""

SAME = 1.0
"""Seconds within which signals count as one: wrappers and terminals often send several."""

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Signals that end a run; Windows lacks the last."""


class Stop:
    """Whether this process was told to stop, and how far that has come.

    Attributes:
        signal: number of the first signal; None before one came.
        raised: KeyboardInterrupt was raised for it.
        once: later signals are ignored, because another process counts them.
    """

    def __init__(self) -> None:
        self.once = False
        self.begin()

    def begin(self) -> None:
        """Forget earlier signals and the exit code of the last one."""
        self._ended_by: int | None = None
        self.reset()

    def reset(self) -> None:
        """Forget earlier signals, but for the exit code of the last one."""
        self.signal: int | None = None
        self.raised = False
        self._first = 0.0
        self._safe: float | None = None
        self._busy: Callable[[], bool] = _never
        self._timer: threading.Timer | None = None

    @property
    def exit_code(self) -> int:
        """Return 128 and the signal's number, as shells do: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.signal or self._ended_by or signal.SIGINT)

    @property
    def came(self) -> bool:
        """Whether a signal came, wherever what it raised has gone."""
        return self.signal is not None

    @property
    def pending(self) -> bool:
        """Whether a stop waits for a safe point or the end of a round."""
        return self.came and not self.raised

    def caused(self, fault: BaseException) -> TypeGuard[KeyboardInterrupt]:
        """Whether a fault is the user's stop, and not a KeyboardInterrupt that a player raised.

        It is a player's where no signal came that could have raised it. That is known only where
        this class handles signals, and nobody else handles Ctrl-C.
        """
        if not isinstance(fault, KeyboardInterrupt):
            return False
        handlers = [signal.getsignal(getattr(signal, name)) for name in NAMES
                    if hasattr(signal, name)]  # fmt: skip
        ours = handlers[0] in (self.handle, signal.SIG_IGN) and self.handle in handlers
        return self.signal is not None or not ours

    def note(self, number: int) -> bool:
        """Take a signal; returns whether it counts: the first, or one some time after it."""
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._first = number, now
            self._ended_by = number
            return True
        return now - self._first >= SAME

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Stop, as a handler of signals does."""
        first = self.signal is None
        counts = self.note(number)
        if first and (self._near_safe_point() or self._busy()):
            self._timer = threading.Timer(GRACE, _again, (number,))
            self._timer.name, self._timer.daemon = "arena-stop", True
            self._timer.start()
        elif not self.raised and counts:
            self.interrupt()
        elif counts and not self.once:
            _end(self.exit_code)

    def interrupt(self) -> None:
        """Raise the stop.

        Raises:
            KeyboardInterrupt: always.
        """
        self.raised = True
        self.attack_ended()
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise again what an attacker caught.

        Raises:
            KeyboardInterrupt: one was raised for a signal before.
        """
        if self.raised:
            raise KeyboardInterrupt

    def at_safe_point(self) -> bool:
        """Note that the attacker is where it can be saved; returns whether a stop waits for it."""
        self._safe = time.monotonic()
        return self.pending

    def _near_safe_point(self) -> bool:
        return self._safe is not None and time.monotonic() - self._safe < GRACE

    def attack_begins(self, busy: Callable[[], bool]) -> None:
        """Wait for the end of a round from now on.

        Args:
            busy: whether a round is played.
        """
        self._busy = busy

    def on_round(self, round: "Round") -> None:
        """Raise a stop that waited for the end of this round, and not for a safe point.

        Raises:
            KeyboardInterrupt: there is one.
        """
        if not self.pending or self._near_safe_point():
            return
        if threading.current_thread() is threading.main_thread():
            self.interrupt()

    def attack_ended(self) -> None:
        """Wait for no safe point and no round any more: what follows is written to its end."""
        self._safe, self._busy = None, _never
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _never() -> bool:
    return False


STOP = Stop()
"""Of this process."""


def _again(number: int) -> None:
    """Call the main thread's handler again, out of whatever call it waits in."""
    main = threading.main_thread().ident
    if sys.platform != "win32" and main is not None:
        signal.pthread_kill(main, number)
    else:
        signal.raise_signal(number)


def _end(code: int) -> None:
    """End now. The log has what was flushed; its next opening closes the episode."""
    os.write(2, b"\narena: ended at once; the next command that opens the log closes the episode\n")
    end_process(code)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle the signals that end a run; those ignored here (nohup) stay ignored.

    Only the main thread receives signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {
        number: signal.signal(number, handler)
        for number in numbers
        if signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def stopping() -> Iterator[Stop]:
    """Let signals stop what is played inside."""
    STOP.begin()
    try:
        with handled(STOP.handle):
            yield STOP
    finally:  # what is played later in this process was not stopped
        STOP.reset()
