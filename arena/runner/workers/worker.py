"""A worker at work: one thread, a world of its own, and a watcher that passes everything on.

Imports nothing heavy, so that threads are set before torch is loaded.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from arena.runner.progress import Progress, Watcher
from arena.runner.task import Task
from arena.runner.workers.pool import Played, WorkerConfig
from arena.system.memory import keep_memory

Say = Callable[[str, tuple[Any, ...]], None]
"""Passes a message on: a name and its arguments."""


class Messenger(Watcher):
    """A watcher in a worker; whoever gave the task hears what it sees."""

    def __init__(self, say: Say) -> None:
        self.say = say

    def line(self, text: str) -> None:
        """Pass on what is being prepared."""
        self.say("line", (text,))

    def begin(self, title: str, index: int, total: int) -> None:
        """Pass on that an episode starts."""
        self.say("begin", (title, index, total))

    def progress(self, title: str, progress: Progress) -> None:
        """Pass on where an episode stands."""
        self.say("progress", (title, progress))

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Pass on that an episode ended."""
        self.say("end", (title, episode_id, status, error))


class Worker:
    """Plays tasks one after another on one device.

    Args:
        number: of the worker; decides which of the devices it gets.
        config: of the match.
        say: passes messages on.
    """

    def __init__(self, number: int, config: WorkerConfig, say: Say) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        keep_memory()
        import torch

        from arena.runner.setup import Setup
        from arena.system.provenance import device_name

        torch.set_num_threads(1)
        self._config, self._watcher = config, Messenger(say)
        device = torch.device(config.devices[number % len(config.devices)])
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self._setup: Setup = Setup(device, self._watcher)
        self._record = replace(config.record, device=device_name(device))

    def say_by(self, say: Say) -> None:
        """Pass messages on by another way from now on."""
        self._watcher.say = say

    def play(self, task: Task) -> Played:
        """Play one task into the log."""
        from arena.log.store import Log
        from arena.runner.resumable import play_one

        title = task.plan.title
        self._watcher.begin(title, task.number, task.total)
        with Log.open(self._config.log_url) as log:
            row, interrupted = play_one(
                task.plan,
                self._setup,
                log,
                run=self._config.run,
                record=self._record,
                saving=self._config.saving,
            )
        self._watcher.end(title, row.id, row.status, row.error)
        return Played(task.number, row.id, interrupted)
