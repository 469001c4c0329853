"""Finds ended episodes without a digest of their rows, and tells whether one was removed.

Programs from before log schema v0003 wrote none. A run is played by one program: where one episode
of a run has a digest, all of them had one at their ends. And who has a newer program seldom goes
back to an older one: an episode that began after the same machine had written digests had one too.
"""

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from arena.log.content import Cells
from arena.log.tables import EPISODE


class Digested(NamedTuple):
    """Where a log has digests.

    Attributes:
        runs: that have an episode with one.
        since: when the first episode with one began, of each machine.
    """

    runs: frozenset[str]
    since: dict[str, datetime]

    def was_removed(self, row: Cells) -> bool:
        """Tell of an episode without a digest whether it had one."""
        since = self.since.get(row["host"])
        return row["run_id"] in self.runs or (since is not None and row["started"] > since)


def digested(connection: Connection) -> Digested:
    """Look where a log has digests."""
    column = EPISODE.c
    query = select(column.run_id, column.host, func.min(column.started))
    query = query.where(column.content_digest.is_not(None)).group_by(column.run_id, column.host)
    rows = connection.execute(query).all()
    since: dict[str, datetime] = {}
    for _, host, started in rows:
        since[host] = min(started, since.get(host, started))
    return Digested(frozenset(run for run, _, _ in rows), since)
