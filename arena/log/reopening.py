"""Take up an episode that was broken off: its row is written on, from where a save stands.

Rows that were written after the save are played again, so they are removed first.
"""

from dataclasses import fields

from sqlalchemy import Connection, Table, delete, func, select, update

from arena.log.processes import Process
from arena.log.rows import OutcomeRow
from arena.log.tables import Artifact, Checkpoint, Episode, Event, Inference, Round

BROKEN_OFF = ("cancelled", "error")
"""An episode that is `started` may still be played by somebody."""

RESUMED = "resumed"
"""Kind of the event that tells of a break."""

_COUNTED = {
    "round": Round.table().c.bucket,
    "checkpoint": Checkpoint.table().c.index,
    "inference": Inference.table().c.id,
    "event": Event.table().c.id,
    "artifact": Artifact.table().c.id,
}


def mark_of(connection: Connection, id: str) -> dict[str, int]:
    """Return the key of the last row that an episode has in each table; -1 for none."""
    mark = {}
    for name, key in _COUNTED.items():
        table: Table = key.table
        last = connection.execute(select(func.max(key)).where(table.c.episode_id == id)).scalar()
        mark[name] = -1 if last is None else int(last)
    return mark


def reopen(
    connection: Connection, id: str, *, mark: dict[str, int], process: Process
) -> str | None:
    """Claim a broken-off episode for a process and take its rows back to a mark.

    Returns:
        Why it was broken off, as its row said; None where it is not (somebody else was quicker).
    """
    episode = Episode.table()
    broken = (episode.c.id == id) & episode.c.status.in_(BROKEN_OFF)
    row = connection.execute(select(episode.c.status, episode.c.error).where(broken)).first()
    if row is None:
        return None
    blank = {field.name: None for field in fields(OutcomeRow)}
    claimed = connection.execute(
        update(episode)
        .where(broken)
        .values(
            **blank,
            status="started",
            error=None,
            finished=None,
            wall_seconds=None,
            pid=process.pid,
            host=process.host,
            process_started=process.started,
        )
    )
    if claimed.rowcount != 1:
        return None
    for name, key in _COUNTED.items():
        table: Table = key.table
        later = (table.c.episode_id == id) & (key > mark[name])
        if name == "event":  # every break is told, however often the same save was gone on from
            later &= table.c.kind != RESUMED
        connection.execute(delete(table).where(later))
    return str(row.error or row.status)
