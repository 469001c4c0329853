"""Shares a scenario with other processes that play it into the same log."""

import time
from collections.abc import Mapping, Sequence

from arena.log.processes import is_own, player_text
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.runner.progress import Watcher
from arena.runner.task import Task
from envs.errors import UnknownName

POLL_SECONDS = 1.0
"""Between two looks at the episodes of others."""


def told_end(watcher: Watcher, title: str, row: EpisodeRow, *, run: str) -> None:
    """Tell a watcher how a task ended: played by this run, or left to another."""
    if row.status == "started":
        player = player_text(row.pid, row.host, row.process_started, row.heartbeat)
        watcher.line(f"{title}: {row.id} is played by {player}")
    elif row.run_id == run or row.status != "success" or is_own(row.pid, row.process_started):
        watcher.end(title, row.id, row.status, row.error)
    else:
        watcher.skip(title, row.id)


def wait_for_others(
    tasks: Sequence[Task], rows: Mapping[int, EpisodeRow], log: Log, watcher: Watcher
) -> tuple[dict[int, EpisodeRow], list[Task], bool]:
    """Wait until others have played some tasks, or until one is left for this process.

    Args:
        tasks: which others play.
        rows: of their episodes, by the tasks' numbers.
        log: in which they play.
        watcher: learns how they ended.

    Returns:
        the rows that others finished; tasks that have to be played here, because their process
        died or was stopped; and whether the user broke off.
    """
    settled: dict[int, EpisodeRow] = {}
    left: list[Task] = []
    waiting = list(tasks)
    try:
        while waiting and not left:
            log.mark_dead()
            for task in list(waiting):
                row = _now(log, rows[task.number].id)
                if row is not None and row.status == "started":
                    continue
                waiting.remove(task)
                if row is None or row.status == "cancelled" or row.finished is None:
                    left.append(task)
                else:
                    settled[task.number] = row
                    watcher.skip(task.plan.title, row.id)
            if waiting and not left:
                time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        return settled, [], True
    return settled, left + waiting if left else [], False


def _now(log: Log, id: str) -> EpisodeRow | None:
    try:
        return log.episode(id)
    except UnknownName:  # removed meanwhile
        return None
