"""Shows what an isolated process prints, without lending it what we print to.

A terminal that a process may write to it may also read, and so see what is typed.
"""

import math
import os
import select
import threading
import time
from contextlib import suppress
from typing import IO

LOOK_SECONDS = 0.5
"""Between two looks whether the process has ended."""

LAST_SECONDS = 2.0
"""A process that ours left behind is not listened to for longer."""


class Printed:
    """Copies the output of a process to standard error, from now until it has ended.

    Args:
        output: where it can be read; closed at the end.
    """

    def __init__(self, output: IO[bytes]) -> None:
        self._output, self._over = output, threading.Event()
        self._thread = threading.Thread(
            target=self._pass_on, name="arena-isolated-output", daemon=True
        )
        self._thread.start()

    def end(self) -> None:
        """Show the rest; the process must be gone."""
        self._over.set()
        self._thread.join(LAST_SECONDS + LOOK_SECONDS)

    def _pass_on(self) -> None:
        end = math.inf
        with self._output:
            while time.monotonic() < end:
                over = self._over.is_set()
                if over:
                    end = min(end, time.monotonic() + LAST_SECONDS)
                if select.select([self._output], [], [], LOOK_SECONDS)[0]:
                    part = os.read(self._output.fileno(), 2**16)
                    if not part:
                        return
                    _show(part)
                elif over:  # a process that it left behind holds the other end
                    return


def _show(part: bytes) -> None:
    """Write to standard error; what cannot be written is dropped, and the process prints on."""
    with suppress(OSError):
        while part:
            part = part[os.write(2, part) :]
