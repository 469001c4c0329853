"""Take up an episode that was broken off: its row is written on, from where a save stands.

Rows that were written after the save are played again, so they are removed first.
"""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, Table, delete, func, select, text, update

from arena.log.outcome import OutcomeRow
from arena.log.processes import Process, Watch, mark_dead
from arena.log.tables import ACCOUNT, ARTIFACT, CHECKPOINT, EPISODE, EVENT, INFERENCE, ROUND

BROKEN_OFF = ("cancelled", "error")
"""An episode that is `started` may still be played by somebody."""

RESUMED = "resumed"
"""Kind of the event that tells of a break."""

_COUNTED = {
    "round": ROUND.c.bucket,
    "checkpoint": CHECKPOINT.c.index,
    "inference": INFERENCE.c.id,
    "event": EVENT.c.id,
    "account": ACCOUNT.c.account,
    "artifact": ARTIFACT.c.id,
}


def mark_of(connection: Connection, id: str) -> dict[str, int]:
    """Return the key of the last row that an episode has in each table; -1 for none."""
    mark = {}
    for name, key in _COUNTED.items():
        table: Table = key.table
        last = connection.execute(select(func.max(key)).where(table.c.episode_id == id)).scalar()
        mark[name] = -1 if last is None else int(last)
    return mark


def settled(
    connection: Connection, plan_hash: str, watch: Watch, *, since: datetime | None = None
) -> str | None:
    """Find the play of a plan because of which no other has to begin: it is played, or was.

    Args:
        connection: in a write transaction, so that no two processes find none at once.
        plan_hash: of the plan.
        watch: of the signs of life of other machines.
        since: a play that failed since then by its players counts too; it would fail again.

    Returns:
        the episode's id; None if there is none.
    """
    _wait_for_others(connection, plan_hash)
    mark_dead(connection, watch, plan_hash)
    column = EPISODE.c
    counts: ColumnElement[bool] = column.status.in_(("started", "success"))
    if since is not None:
        failed = (column.status == "error") & column.finished.is_not(None)
        counts |= failed & (column.started >= since)
    query = (
        select(column.id)
        .where((column.plan_hash == plan_hash) & (column.kind == "play") & counts)
        .order_by(column.started.desc(), column.id.desc())
    )
    return connection.execute(query.limit(1)).scalar()


def served_meanwhile(
    connection: Connection, service: Mapping[str, object], *, seen: Collection[str]
) -> str | None:
    """Find an episode of a key that began since its earlier ones were looked up.

    Args:
        connection: in a write transaction, so that no two processes find none at once.
        service: columns by which episodes of the key are known, and their values.
        seen: the episodes that were found.

    Returns:
        the episode's id; None if there is none.
    """
    _wait_for_others(connection, repr(sorted(service.items())))
    column = EPISODE.c
    alike = (column[name] == value for name, value in service.items())
    query = select(column.id).where(column.kind == "served", column.id.not_in(seen), *alike)
    return connection.execute(query.limit(1)).scalar()


def _wait_for_others(connection: Connection, name: str) -> None:
    """Let one transaction at a time pass, where a database lets several write at once."""
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], signed=True)
        connection.execute(text(f"SELECT pg_advisory_xact_lock({key})"))


def reopen(
    connection: Connection,
    id: str,
    *,
    mark: Mapping[str, int],
    process: Process,
    watch: Watch,
    charged: int | None = None,
    anew: bool = False,
) -> str | None:
    """Claim a broken-off episode for a process and take its rows back to a mark.

    What a victim elsewhere has charged is kept in its row: it cannot be taken back. With `anew`
    plays of the same plan in other episodes do not count.

    Returns:
        Why it was broken off, as its row said; None where it is not, or another attempt at its
        plan was quicker.
    """
    broken = (EPISODE.c.id == id) & EPISODE.c.status.in_(BROKEN_OFF)
    query = select(EPISODE.c.status, EPISODE.c.error, EPISODE.c.plan_hash).where(broken)
    row = connection.execute(query).first()
    if row is None or (not anew and settled(connection, row.plan_hash, watch) is not None):
        return None
    blank: dict[str, int | None] = {field.name: None for field in fields(OutcomeRow)}
    blank["queries_used"] = charged
    claimed = connection.execute(
        update(EPISODE)
        .where(broken)
        .values(
            **blank,
            status="started",
            error=None,
            content_digest=None,
            finished=None,
            wall_seconds=None,
            pid=process.pid,
            host=process.host,
            process_started=process.started,
            heartbeat=func.now(),
        )
    )
    if claimed.rowcount != 1:
        return None
    for name, key in _COUNTED.items():
        table: Table = key.table
        later = (table.c.episode_id == id) & (key > mark.get(name, -1))
        if name == "event":  # every break is told, however often the same save was gone on from
            later &= table.c.kind != RESUMED
        connection.execute(delete(table).where(later))
    return str(row.error or row.status)
