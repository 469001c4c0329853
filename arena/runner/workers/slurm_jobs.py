"""Plays episodes as jobs of a Slurm cluster, each as a job of its own, through submitit.

Every machine has to reach the log: a PostgreSQL server.
"""

import os
import pickle
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from arena.log.engine import Address, resolve
from arena.runner.stopping import STOP
from arena.runner.task import Task
from arena.runner.workers.pool import Message, Played, WorkerConfig
from envs.errors import ArenaError, ScenarioError, one_line

# `Any` in this file: submitit's objects and the parameters that it takes.

FOLDER = Path("arena-jobs")
"""Of submitted jobs and what they print, in the current folder, which every machine has to see."""

LOOK_SECONDS = 1.0
"""Between two looks at the jobs; each asks the file system for every job."""

REQUEUES = 1000
"""A job that reached its time limit is begun again so many times."""


class JobResult(NamedTuple):
    """What a job leaves: what its watcher saw, and how its episode ended."""

    seen: list[tuple[str, tuple[Any, ...]]]
    played: Played


class EpisodeJob:
    """Plays one task; the function of a job.

    Before its time limit, or a preemption, Slurm sends SIGUSR2: the episode is saved at its next
    safe point, its row closed, and the job is queued again, where it goes on from the save.

    Args:
        config: of the match.
        task: to play.
    """

    def __init__(self, config: WorkerConfig, task: Task) -> None:
        # packed, because to read them loads torch, which has to come after the number of threads
        self._packed = pickle.dumps((config, task))

    def __call__(self) -> JobResult:
        """Play the task; does not return where the job is queued again."""
        os.environ["OMP_NUM_THREADS"] = "1"
        from arena.runner.workers.worker import Worker

        queue_again = signal.getsignal(signal.SIGUSR2)  # submitit's
        STOP.once = True  # closing an episode must not be interrupted again
        for name in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            signal.signal(name, STOP.handle)
        config, task = pickle.loads(self._packed)
        seen: list[tuple[str, tuple[Any, ...]]] = []

        def send(name: str, arguments: tuple[Any, ...]) -> None:
            if name != "progress":  # nobody looks on
                seen.append((name, arguments))

        played = Worker(0, config, send).play(task)
        if played.interrupted and STOP.signal == signal.SIGUSR2 and callable(queue_again):
            queue_again(signal.SIGUSR2, None)
        return JobResult(seen, played)

    def checkpoint(self) -> Any:
        """Return what is queued again: the same task, whose save is beside the log."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def executor(parameters: Mapping[str, Any], address: Address, folder: Path = FOLDER) -> Any:
    """Make what submits jobs; nothing is submitted or written yet.

    Raises:
        ArenaError, ScenarioError: see `SlurmPool`.
    """
    submitit = _submitit()
    given = dict(parameters)
    cluster = given.pop("cluster", "slurm")
    if address.path is not None and cluster == "slurm":
        raise ScenarioError(
            f"--workers slurm: expected a log that every machine of the cluster reaches, --log "
            f"postgresql://HOST/DATABASE; got {address.path}, a file of one machine"
        )
    limit = {f"{cluster}_max_num_timeout": REQUEUES} if cluster in ("slurm", "local") else {}
    try:
        made: Any = submitit.AutoExecutor(folder, cluster=cluster, **limit)
        made.update_parameters(**({"name": "arena"} | given))
    except Exception as error:  # submitit raises half a dozen kinds
        raise ArenaError(f"--workers slurm: {one_line(error)}") from error
    return made


class SlurmPool:
    """So many jobs at once, one for each episode.

    Args:
        size: jobs that are queued or run at once, at most.
        config: what workers need.
        parameters: of submitit's `AutoExecutor`, such as `timeout_min` and `slurm_partition`;
            "cluster" is its own.
        folder: of submitted jobs.

    Raises:
        ArenaError: submitit is not installed, or takes no such parameter.
        ScenarioError: the log is a file, which other machines cannot write.
    """

    def __init__(
        self,
        size: int,
        config: WorkerConfig,
        parameters: Mapping[str, Any],
        *,
        folder: Path = FOLDER,
    ) -> None:
        self.size = size
        self._submitit = _submitit()
        address = resolve(config.log_url)
        self._executor = executor(parameters, address, folder)
        # Slurm shows a job its own GPU alone, under the number 0
        if config.devices[0].startswith("cuda"):
            config = config._replace(devices=("cuda:0",))
        if address.path is not None:  # jobs have other folders
            config = config._replace(log_url=str(address.path.resolve()))
        self._config = config
        self._jobs: dict[int, Any] = {}
        self._looked = 0.0
        self._stopped = False
        self._waiting: list[Message] = []

    def assign(self, worker: int, task: Task) -> None:
        """Submit a job for a task."""
        try:
            job = self._executor.submit(EpisodeJob(self._config, task))
        except Exception as error:  # sbatch is missing, or refuses
            self._waiting.append(Message(worker, "fault", (one_line(error),)))
            return
        self._jobs[worker] = job
        line = f"{task.plan.title}: job {job.job_id}, which prints to {job.paths.stderr}"
        self._waiting.append(Message(worker, "line", (line,)))

    def receive(self, seconds: float) -> list[Message]:
        """Return what jobs left that have ended; they tell nothing before."""
        messages, self._waiting = self._waiting, []
        if messages:
            return messages
        if time.monotonic() - self._looked < LOOK_SECONDS:
            time.sleep(seconds)
            return []
        self._looked = time.monotonic()
        for worker, job in list(self._jobs.items()):
            if job.done():
                del self._jobs[worker]
                messages += self._ended(worker, job)
        return messages

    def _ended(self, worker: int, job: Any) -> list[Message]:
        errors = self._submitit.core.utils
        try:
            result: JobResult = job.result()
        except errors.FailedJobError as error:
            return [Message(worker, "fault", (_fault_of(str(error)),))]
        except errors.UncompletedJobError as error:
            reason = str(error).splitlines()[0]
            return [Message(worker, "died", (f"job {job.job_id}, which ended early: {reason}",))]
        seen = [Message(worker, *one) for one in result.seen]
        if result.played.interrupted and not self._stopped:
            reason = f"job {job.job_id}, which was cancelled"
            return [*seen, Message(worker, "died", (reason,))]
        return [*seen, Message(worker, "played", (result.played,))]

    def stop(self) -> None:
        """Cancel every job; those that play close their episodes."""
        self._stopped = True
        self._each(lambda job: job.cancel())

    def close(self) -> None:
        """Cancel what is left."""
        self._each(lambda job: job.cancel())
        self._jobs.clear()

    def _each(self, act: Callable[[Any], None]) -> None:
        for job in self._jobs.values():
            with suppress(Exception):  # it has ended meanwhile, or scancel fails
                act(job)


def _fault_of(text: str) -> str:
    """Return the last line of the traceback, which submitit tells between two rules."""
    lines = [line for line in text.splitlines() if line.strip()]
    rules = [place for place, line in enumerate(lines) if line.startswith("----------")]
    return lines[rules[1] - 1] if len(rules) > 1 else lines[0]


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise ArenaError(
            "--workers slurm needs submitit: pip install 'fortress-arena[slurm]'"
        ) from error
    return submitit
