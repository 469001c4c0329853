"""Parses how many workers play a match: one process, several, or a Ray cluster."""

from dataclasses import dataclass

from arena.runner.workers.pool import WorkerConfig, WorkerPool
from arena.system.shadowing import require_own_packages
from envs.errors import ScenarioError

RAY = "ray"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How many workers play, and where.

    Attributes:
        workers: processes on this machine.
        cluster: address of a Ray cluster; "" for one started here, None for no Ray.
    """

    workers: int = 1
    cluster: str | None = None

    @classmethod
    def of(cls, workers: int | str) -> "WorkerOptions":
        """Read "2", "ray" or "ray:ADDRESS".

        Raises:
            ScenarioError: it is none of these.
        """
        text = str(workers)
        if text == RAY or text.startswith(f"{RAY}:"):
            return cls(cluster=text[len(RAY) + 1 :])
        if text.isdecimal() and int(text) > 0:
            return cls(workers=int(text))
        raise ScenarioError(f"expected a number of workers, 'ray' or 'ray:ADDRESS', got '{text}'")

    @property
    def apart(self) -> bool:
        """Whether episodes are played in other processes."""
        return self.workers > 1 or self.cluster is not None

    def pool(self, tasks: int, config: WorkerConfig) -> WorkerPool:
        """Make a pool of workers, no more than there are tasks.

        Raises:
            ArenaError: Ray is not installed, or cannot be reached.
            ShadowedPackage: a new process would import another package in place of ours.
        """
        require_own_packages(new_process=True)
        if self.cluster is not None:
            from arena.runner.workers.ray_cluster import RayPool

            return RayPool(tasks, config, address=self.cluster)
        from arena.runner.workers.processes import ProcessPool

        return ProcessPool(min(self.workers, tasks), config)
