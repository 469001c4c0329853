"""Tells whether one log goes on with an episode where another has it broken off."""

from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, select

from arena.log.content import chained, content_digest, first_links
from arena.log.outcome import OutcomeRow
from arena.log.reopening import BROKEN_OFF, RESUMED
from arena.log.tables import CHECKPOINT, EPISODE, EVENT, ROUND

# `Any` in this file: rows as the database gives them, each column with its own type.

_AT_ITS_END = frozenset(
    {field.name for field in fields(OutcomeRow)}
    | {"status", "error", "finished", "wall_seconds", "content_digest", "heartbeat"}
    | {"host", "pid", "process_started"}
)
"""Columns of an episode's row that a resumed episode writes anew."""


def continues(later: Connection, earlier: Connection, id: str) -> bool:
    """Tell whether a log holds what became of an episode that another log has broken off.

    It does if it tells of a break that the other knows nothing of, and both have the same run,
    plan, rounds and checkpoints before the save from which it went on: the same chain of digests
    up to there. Rows that were changed after the episode's end prove nothing.
    """
    old, new = _own(earlier, id), _own(later, id)
    if old["status"] not in BROKEN_OFF or new["status"] == "started":
        return False
    if not (_as_ended(earlier, id, old) and _as_ended(later, id, new)):
        return False
    breaks = _breaks(later, id)
    if len(breaks) <= (known := len(_breaks(earlier, id))):
        return False
    saved = breaks[known]
    return _until(later, id, new, saved) == _until(earlier, id, old, saved)


def _own(connection: Connection, id: str) -> dict[str, Any]:
    query = select(EPISODE).where(EPISODE.c.id == id)
    return dict(connection.execute(query).mappings().one())


def _as_ended(connection: Connection, id: str, row: dict[str, Any]) -> bool:
    """Tell whether an episode is as it ended; one whose process died has no digest."""
    kept = row["content_digest"]
    return kept is None or bool(kept == content_digest(connection, id))


def _breaks(connection: Connection, id: str) -> list[int]:
    """Return the queries asked before each save from which an episode went on."""
    mine = (EVENT.c.episode_id == id) & (EVENT.c.kind == RESUMED)
    query = select(EVENT.c.queries_used).where(mine).order_by(EVENT.c.id)
    return [count or 0 for count in connection.execute(query).scalars()]


def _until(connection: Connection, id: str, row: dict[str, Any], queries: int) -> str:
    """Digest what an episode wrote before it had asked so many queries.

    A round that ends at that number may be a part of the one that was played on.
    """
    link = first_links(connection, row, without=_AT_ITS_END)
    for table in (ROUND, CHECKPOINT):
        mine = (table.c.episode_id == id) & (table.c.queries_used < queries)
        found = connection.execute(select(table).where(mine).order_by(*table.primary_key))
        link = chained(link, ((table.name, dict(one)) for one in found.mappings()))
    return link
