"""Reads who plays a match: one process, several, a Ray cluster, or threads of one process."""

from dataclasses import dataclass

from arena.runner.workers.pool import WorkerConfig, WorkerPool
from envs.errors import ScenarioError

RAY = "ray"


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Who plays.

    Attributes:
        workers: processes on this machine.
        cluster: address of a Ray cluster; "" for one started here, None for no Ray.
        parallel: episodes at once in one process.
    """

    workers: int = 1
    cluster: str | None = None
    parallel: int = 1

    @classmethod
    def of(cls, workers: int | str, parallel: int = 1) -> "WorkerOptions":
        """Read "2", "ray" or "ray:ADDRESS".

        Raises:
            ScenarioError: it is none of these, or both kinds of "at once" are asked for.
        """
        text = str(workers)
        if parallel < 1:
            raise ScenarioError(f"expected parallel episodes of at least 1, got {parallel}")
        if text == RAY or text.startswith(f"{RAY}:"):
            options = cls(cluster=text[len(RAY) + 1 :])
        elif text.isdecimal() and int(text) > 0:
            options = cls(workers=int(text), parallel=parallel)
        else:
            raise ScenarioError(
                f"expected a number of workers, 'ray' or 'ray:ADDRESS', got '{text}'"
            )
        if parallel > 1 and options.apart:
            raise ScenarioError(
                f"parallel episodes share one process; leave out workers, or parallel ({parallel})"
            )
        return options

    @property
    def apart(self) -> bool:
        """Whether episodes are played in other processes."""
        return self.workers > 1 or self.cluster is not None

    def pool(self, tasks: int, config: WorkerConfig) -> WorkerPool:
        """Call the workers together, no more than there are tasks.

        Raises:
            ArenaError: Ray is not installed, or cannot be reached.
        """
        if self.cluster is not None:
            from arena.runner.workers.ray_cluster import RayPool

            return RayPool(tasks, config, address=self.cluster)
        from arena.runner.workers.processes import ProcessPool

        return ProcessPool(min(self.workers, tasks), config)
