"""Decides whether an earlier attempt at a plan is resumed or left behind."""

from collections.abc import Mapping
from typing import NamedTuple

from arena.log.episode_filter import EpisodeFilter
from arena.log.reader import LogReader
from arena.log.reopening import BROKEN_OFF
from arena.log.rows import EpisodeRow, RunRecord
from arena.runner.saves.header import Save
from arena.runner.saves.store import SaveStore
from arena.scenario import EpisodePlan
from arena.system.threads import THREADS


class PreviousAttempt(NamedTuple):
    """What is known before a plan is played.

    Attributes:
        save: of the latest attempt, to go on from; None to start afresh.
        line: says so to people; "" where there was no earlier attempt.
        versions: under which that attempt was played.
    """

    save: Save | None
    line: str
    versions: Mapping[str, object]


def previous_attempt(
    plan: EpisodePlan, log: LogReader, record: RunRecord, store: SaveStore
) -> PreviousAttempt:
    """Look for the latest attempt at a plan.

    It is gone on with if it was broken off, was saved, and would be played by the same program on
    the same kind of device: only then does it end as it would have without the break.
    """
    attempts = log.episodes(EpisodeFilter(plan_hash=plan.hash, limit=1))
    # one that another process plays is waited for
    if not attempts or attempts[0].status not in BROKEN_OFF:
        return PreviousAttempt(None, "", {})
    row = attempts[0]
    before = f"{plan.title}: an earlier attempt ({row.id})"
    if plan.isolation != "none":
        line = f"{before} ended as {row.status}; isolated attackers start afresh"
        return PreviousAttempt(None, line, {})
    save = store.find(row.id)
    if save is None:
        return PreviousAttempt(
            None, f"{before} ended as {row.status} and left no save; starting afresh", {}
        )
    change = _change(row, record)
    if change:
        return PreviousAttempt(None, f"{before} was played with {change}; starting afresh", {})
    line = f"{before} ended as {row.status}; resuming at {save.queries_used} of " \
           f"{plan.threat.budget} queries"  # fmt: skip
    return PreviousAttempt(save, line, row.versions)


def _change(row: EpisodeRow, record: RunRecord) -> str:
    """Name what differs between then and now and bears on the result; "" for nothing."""
    for name in sorted({*row.versions, *record.versions} - {THREADS}):
        then, now = row.versions.get(name), record.versions.get(name)
        if then != now:
            return f"{name} {then}, and this is {now}"
    if row.git_commit != record.git_commit:
        return f"commit {str(row.git_commit)[:10]}, and this is {str(record.git_commit)[:10]}"
    if row.device != record.device:
        return f"device {row.device}, and this is {record.device}"
    return ""
