"""Plays episodes on a Ray cluster, each as a task of Ray's.

Every machine has to reach the log: a PostgreSQL server.
"""

import os
import queue
from contextlib import suppress
from typing import Any

from arena.log.engine import resolve
from arena.runner.task import Task
from arena.runner.workers.pool import Message, WorkerConfig
from arena.runner.workers.worker import Worker
from envs.errors import ArenaError, one_line

# `Any` in this file: Ray's objects, which it leaves without types.

PASSED_ON = ("PYTHONPATH", "ARENA_CACHE", "ARENA_DATA")
"""Variables of the environment that workers get from here."""


class RayPool:
    """Slots of a Ray cluster: as many as it has CPUs, or GPUs where episodes need one.

    Args:
        tasks: how many there are to play; no more slots are used.
        config: what workers need.
        address: of a running cluster, "auto" for the one of this machine; "" starts one here, which
            ends with the match.

    Raises:
        ArenaError: Ray is not installed, no cluster answers, or it has no free CPU (or GPU).
    """

    def __init__(self, tasks: int, config: WorkerConfig, *, address: str = "") -> None:
        self._ray = require_ray()
        self._began = _connect(self._ray, address)
        self._cuda = config.devices[0].startswith("cuda")
        kind = "GPU" if self._cuda else "CPU"
        slots = int(self._ray.cluster_resources().get(kind, 0))
        if slots < 1:
            self._leave()
            raise ArenaError(f"the Ray cluster has no {kind} to play on; see 'ray status'")
        self.size = min(tasks, slots)
        # Ray shows a task its own GPU alone, under the number 0
        devices = ("cuda:0",) if self._cuda else config.devices
        self._config = self._ray.put(
            config._replace(devices=devices, log_url=_from_anywhere(config.log_url))
        )
        from ray.util.queue import Queue

        self._queue: Any = Queue(actor_options={"num_cpus": 0})
        self._playing: dict[Any, int] = {}
        options = {"num_cpus": 0 if self._cuda else 1, "num_gpus": 1 if self._cuda else 0}
        # the match assigns a task again whose worker died, and counts
        self._remote: Any = self._ray.remote(max_retries=0, **options)(_play)

    def assign(self, worker: int, task: Task) -> None:
        """Submit a task to the cluster."""
        reference = self._remote.remote(worker, self._config, self._queue, task)
        self._playing[reference] = worker

    def receive(self, seconds: float) -> list[Message]:
        """Return the workers' messages, and which tasks ended."""
        done: list[Any] = []
        if self._playing:
            done, _ = self._ray.wait(list(self._playing), timeout=seconds)
        messages = self._sent()  # before the ends, which come last
        return messages + [self._end(reference) for reference in done]

    def _sent(self) -> list[Message]:
        messages: list[Message] = []
        with suppress(queue.Empty, self._ray.exceptions.RayError):
            while count := self._queue.qsize():
                messages += [Message(*sent) for sent in self._queue.get_nowait_batch(count)]
        return messages

    def _end(self, reference: Any) -> Message:
        worker = self._playing.pop(reference)
        errors = self._ray.exceptions
        try:
            return Message(worker, "played", (self._ray.get(reference),))
        except errors.RayTaskError as error:
            return Message(worker, "fault", (one_line(error.cause or error),))
        except errors.TaskCancelledError:
            return Message(worker, "fault", ("interrupted by the user",))
        except errors.RayError as error:  # the worker, or its machine, is gone
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            return Message(worker, "died", (f"lost: {reason}",))

    def stop(self) -> None:
        """Interrupt every task; its episode is closed as cancelled."""
        for reference in list(self._playing):
            self._ray.cancel(reference, force=False)

    def close(self) -> None:
        """Give the slots back; end the cluster where it was started here."""
        for reference in list(self._playing):
            with suppress(self._ray.exceptions.RayError):
                self._ray.cancel(reference, force=True)
        self._queue.shutdown(force=True)
        self._leave()

    def _leave(self) -> None:
        if self._began:
            self._ray.shutdown()


def require_ray() -> Any:
    """Import Ray.

    Raises:
        ArenaError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ArenaError("--workers ray needs Ray: pip install 'fortress-arena[ray]'") from error
    return ray


def _connect(ray: Any, address: str) -> bool:
    """Connect to a cluster; return whether this call did and so has to disconnect."""
    if ray.is_initialized():
        return False
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    options: dict[str, Any] = {
        "runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1", **passed}},
        "log_to_driver": False,
        "logging_level": "ERROR",
    }
    if not address:
        options["include_dashboard"] = False
    try:
        ray.init(address=address or "local", **options)
    except Exception as error:  # Ray raises a dozen kinds
        place = f"at {address}" if address else "on this machine"
        raise ArenaError(f"no Ray cluster {place}: {one_line(error)}") from error
    return True


def _from_anywhere(log_url: str) -> str:
    """Return an address of the log that works in other folders too."""
    address = resolve(log_url)
    return log_url if address.path is None else str(address.path.resolve())


_workers: dict[str, Worker] = {}
"""The worker of the current run in each of Ray's processes, which play several tasks."""


def _play(number: int, config: WorkerConfig, messages: Any, task: Task) -> Any:
    """Play one task in a process of Ray's."""

    def send(name: str, arguments: tuple[Any, ...]) -> None:
        messages.put((number, name, arguments))

    worker = _workers.get(config.run)
    if worker is None:
        _workers.clear()
        worker = _workers[config.run] = Worker(0, config, send)
    worker.send_by(send)
    return worker.play(task)
