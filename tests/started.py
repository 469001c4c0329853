"""Starts `arena` in a process of its own, forked from one that has imported what it needs.

A process that imports torch anew takes seconds, and tests of signals, kills and runs that share a
log start many.
"""

import importlib
import multiprocessing
import os
import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

_FORKS = multiprocessing.get_context("forkserver")
_PRELOADED = "arena.runner.workers.preload"


class Started:
    """A process that runs a command with these words; it reads nothing and leads its own session.

    Args:
        words: of the command line, after the command.
        main: module whose `main` is the command.
        folder: where it runs; here where absent.
    """

    def __init__(self, *words: object, main: str = "arena.cli", folder: Path | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._said = [Path(self._folder.name) / name for name in ("out", "err")]
        for path in self._said:
            path.touch()
        _FORKS.set_forkserver_preload([_PRELOADED])
        arguments = (
            main,
            list(map(str, words)),
            folder or Path.cwd(),
            dict(os.environ),
            self._said,
        )
        self._process = _FORKS.Process(target=_run, args=arguments)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def out(self) -> str:
        """What it has written to standard output so far."""
        return self._said[0].read_text()

    def err(self) -> str:
        """What it has written to standard error so far."""
        return self._said[1].read_text()

    def wait_for(self, pattern: str, *, err: bool = False, seconds: float = 120) -> re.Match[str]:
        """Wait until it has written something, and return the match."""
        deadline = time.monotonic() + seconds
        while True:
            over = time.monotonic() > deadline or self.returncode is not None
            if found := re.search(pattern, self.err() if err else self.out()):
                return found
            if over:
                break
            time.sleep(0.05)
        raise AssertionError(f"no {pattern!r} in {self.out()!r}, {self.err()!r}")

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it and all it started; a process that has ended is left alone."""
        if self.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)

    def ended(self, seconds: float = 250) -> tuple[str, str]:
        """Wait for its end, and return standard output and error."""
        self._process.join(seconds)
        assert self.returncode is not None, f"runs on after {seconds} s: {self.err()}"
        return self.out(), self.err()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()
        self._process.join()
        self._folder.cleanup()


def _run(
    main: str, words: list[str], folder: Path, environment: dict[str, str], said: list[Path]
) -> None:
    os.setsid()
    for number, path in enumerate(said, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # as a shell starts it; the server of forks has other handlers
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [main, *words]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.exit(importlib.import_module(main).main())
