"""Parses how many workers play a match: one process, several, or a cluster of Ray's or Slurm's."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from arena.log.engine import Address
from arena.runner.workers.pool import WorkerConfig, WorkerPool
from arena.system.shadowing import require_own_packages
from envs.errors import ScenarioError

RAY, SLURM = "ray", "slurm"

JOBS = 16
"""Slurm jobs at once, where no number is given."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How many workers play, and where.

    Attributes:
        workers: processes on this machine.
        cluster: address of a Ray cluster; "" for one started here, None for no Ray.
        jobs: Slurm jobs at once; 0 for no Slurm.
        parameters: of the jobs, by submitit's names.
    """

    workers: int = 1
    cluster: str | None = None
    jobs: int = 0
    parameters: Mapping[str, str | int] = field(default_factory=dict)

    @classmethod
    def of(cls, workers: int | str) -> "WorkerOptions":
        """Read "2", "ray", "ray:ADDRESS", "slurm" or "slurm:8,timeout_min=240,...".

        Raises:
            ScenarioError: it is none of these.
        """
        text = str(workers)
        if text == RAY or text.startswith(f"{RAY}:"):
            return cls(cluster=text[len(RAY) + 1 :])
        if text == SLURM or text.startswith(f"{SLURM}:"):
            return cls._of_jobs(text[len(SLURM) + 1 :])
        if text.isdecimal() and int(text) > 0:
            return cls(workers=int(text))
        raise ScenarioError(
            f"expected a number of workers, 'ray', 'ray:ADDRESS', 'slurm' or 'slurm:JOBS', got "
            f"'{text}'"
        )

    @classmethod
    def _of_jobs(cls, text: str) -> "WorkerOptions":
        """Read what follows "slurm:": a number of jobs, and parameters by submitit's names."""
        parts = [part.strip() for part in text.split(",") if part.strip()]
        jobs = parts.pop(0) if parts and "=" not in parts[0] else str(JOBS)
        given = dict(part.partition("=")[::2] for part in parts)
        if not jobs.isdecimal() or int(jobs) < 1 or not all(given) or not all(given.values()):
            raise ScenarioError(
                f"expected slurm:JOBS,NAME=VALUE,... such as "
                f"slurm:8,timeout_min=240,slurm_partition=day, got 'slurm:{text}'"
            )
        values = {name: int(one) if one.isdecimal() else one for name, one in given.items()}
        return cls(jobs=int(jobs), parameters=values)

    @property
    def apart(self) -> bool:
        """Whether episodes are played in other processes."""
        return self.workers > 1 or self.cluster is not None or self.jobs > 0

    def require(self, address: Address) -> None:
        """Refuse what can be known before a log is made.

        Args:
            address: of the log.

        Raises:
            ArenaError, ScenarioError: see `pool`; whether a cluster can be reached is found later.
        """
        if self.cluster is not None:
            from arena.runner.workers.ray_cluster import require_ray

            require_ray()
        if self.jobs:
            from arena.runner.workers.slurm_jobs import executor

            executor(self.parameters, address)

    def pool(self, tasks: int, config: WorkerConfig) -> WorkerPool:
        """Make a pool of workers, no more than there are tasks.

        Raises:
            ArenaError: Ray or submitit is not installed, or cannot be reached.
            ScenarioError: Slurm's machines could not write the log.
            ShadowedPackage: a new process would import another package in place of ours.
        """
        require_own_packages(new_process=True)
        if self.cluster is not None:
            from arena.runner.workers.ray_cluster import RayPool

            return RayPool(tasks, config, address=self.cluster)
        if self.jobs:
            from arena.runner.workers.slurm_jobs import SlurmPool

            return SlurmPool(min(self.jobs, tasks), config, self.parameters)
        from arena.runner.workers.processes import ProcessPool

        return ProcessPool(min(self.workers, tasks), config)
