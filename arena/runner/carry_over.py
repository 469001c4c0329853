"""Hands what a defender learnt in one episode to the next.

A defender that learns between episodes lives through the seeds of a scenario in their order, one
life per attacker. What it learnt is an event of the episode's log, and an episode's hash names
the one before it: the same scenario gives the same rows, however often it is broken off.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from arena.log.reader import LogReader
from arena.runner.progress import Watcher
from arena.runner.task import Task

CARRIED_STATE = "carried_state"
"""Kind of the event that holds what a defender learnt."""


def dependency_levels(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Group tasks into levels; each comes after the one whose state its defender carries.

    Args:
        tasks: in the order of the plans, in which predecessors come first.
    """
    depth: dict[str, int] = {}
    for task in tasks:
        depth[task.plan.hash] = depth.get(task.plan.after, -1) + 1
    for level in range(max(depth.values(), default=-1) + 1):
        yield [task for task in tasks if depth[task.plan.hash] == level]


def with_carried_state(tasks: Sequence[Task], log: LogReader, watcher: Watcher) -> list[Task]:
    """Put into each plan what its defender learnt before; leaves out what cannot be played.

    Args:
        tasks: of one level.
        log: holds the episodes of the dependency_levels before.
        watcher: is told of episodes left out, because the one before was not finished.
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
    """Read what a defender learnt in an episode, as JSON values (hence `Any`); {} for nothing."""
    carried = [event for event in log.events(episode_id) if event.kind == CARRIED_STATE]
    return cast(dict[str, Any], carried[-1].data["carried_state"]) if carried else {}
