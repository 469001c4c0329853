"""Carries the state of a defender from one episode to the next.

A defender that learns between episodes plays the seeds of a scenario in their order, with a state
of its own for each attacker. The state is an event of the episode's log, and an episode's hash
names the one before it, so the same scenario gives the same rows, however often it is interrupted.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from arena.log.reader import LogReader
from arena.runner.progress import Watcher
from arena.runner.task import Task

CARRIED_STATE = "carried_state"
"""Kind of the event that holds a defender's state."""


def dependency_levels(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Group tasks into levels; each level needs the states that the one before leaves.

    Args:
        tasks: in the order of the plans, in which predecessors come first.
    """
    depth: dict[str, int] = {}
    for task in tasks:
        depth[task.plan.hash] = depth.get(task.plan.after, -1) + 1
    for level in range(max(depth.values(), default=-1) + 1):
        yield [task for task in tasks if depth[task.plan.hash] == level]


def with_carried_state(tasks: Sequence[Task], log: LogReader, watcher: Watcher) -> list[Task]:
    """Put the carried state into each plan; leaves out tasks whose state is missing.

    Args:
        tasks: of one level.
        log: holds the episodes of earlier levels.
        watcher: receives a line for each task left out.
    """
    ready: list[Task] = []
    for task in tasks:
        if not task.plan.after:
            ready.append(task)
            continue
        before = log.finished(task.plan.after)
        if before is None:
            watcher.line(f"{task.plan.title}: left out, since its defender learns from the seed "
                         f"before, and that was not played to its end")  # fmt: skip
            continue
        plan = task.plan.model_copy(update={"carried_state": carried_state_of(log, before.id)})
        ready.append(task._replace(plan=plan))
    return ready


def carried_state_of(log: LogReader, episode_id: str) -> dict[str, Any]:
    """Read the state a defender left after an episode, in JSON values (hence `Any`); {} if none."""
    carried = [
        event
        for event in log.events(episode_id)
        # older programs took notes of this kind from players, which lie elsewhere in the data
        if event.kind == CARRIED_STATE and "carried_state" in event.data
    ]
    return cast(dict[str, Any], carried[-1].data["carried_state"]) if carried else {}
