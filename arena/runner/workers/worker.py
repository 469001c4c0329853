"""Plays tasks in a worker process and sends its progress to the match.

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

Send = Callable[[str, tuple[Any, ...]], None]
"""Sends a message to the match: a name and its arguments."""


class Messenger(Watcher):
    """Sends what a watcher sees to the match."""

    def __init__(self, send: Send) -> None:
        self.send = send

    def line(self, text: str) -> None:
        """Send a line on the preparation."""
        self.send("line", (text,))

    def begin(self, title: str, index: int, total: int) -> None:
        """Send that an episode starts."""
        self.send("begin", (title, index, total))

    def phase(self, title: str, phase: str) -> None:
        """Send what an episode does now."""
        self.send("phase", (title, phase))

    def progress(self, title: str, progress: Progress) -> None:
        """Send where an episode stands."""
        self.send("progress", (title, progress))

    def skip(self, title: str, episode_id: str) -> None:
        """Send that an episode is left out, because another process has played it."""
        self.send("skip", (title, episode_id))

    def end(self, title: str, episode_id: str, status: str, error: str | None) -> None:
        """Send that an episode ended."""
        self.send("end", (title, episode_id, status, error))


class Worker:
    """Plays tasks one after another on one device.

    Args:
        number: of the worker; it takes the devices in turn.
        config: of the match.
        send: sends messages to the match.
    """

    def __init__(self, number: int, config: WorkerConfig, send: Send) -> None:
        os.environ["OMP_NUM_THREADS"] = "1"
        keep_memory()
        import torch

        from arena.runner.setup import Setup
        from arena.system.provenance import device_name

        torch.set_num_threads(1)
        self._config, self._watcher = config, Messenger(send)
        device = torch.device(config.devices[number % len(config.devices)])
        if device.type == "cuda":
            torch.cuda.set_device(device)
        self._setup: Setup = Setup(device, self._watcher)
        self._record = replace(config.record, device=device_name(device))

    def send_by(self, send: Send) -> None:
        """Send messages another way from now on."""
        self._watcher.send = send

    def play(self, task: Task) -> Played:
        """Play one task into the log."""
        from arena.log.store import Log
        from arena.runner.resume import play_one
        from arena.runner.sharing import told_end

        title = task.plan.title
        self._watcher.begin(title, task.number, task.total)
        with Log.open(self._config.log_url, create=False) as log:
            row, interrupted = play_one(
                task.plan,
                self._setup,
                log,
                run=self._config.run,
                record=self._record,
                saving=self._config.saving,
            )
        told_end(self._watcher, title, row, run=self._config.run)
        return Played(task.number, row.id, interrupted)
