"""Counts and lists the episodes that a filter lets through, without reading them."""

from sqlalchemy import func, select

from arena.log.database_errors import explained
from arena.log.episode_filter import EpisodeFilter
from arena.log.narrowing import conditions
from arena.log.reader import LogReader
from arena.log.tables import EPISODE

GROUPED = ("scenario_name", "attacker", "defender", "status")
"""Columns whose values `tally` counts."""

Tally = dict[str, dict[str, int]]
"""Of each column of `GROUPED` its values, in alphabetical order, with the episodes that have it."""


def tally(log: LogReader, which: EpisodeFilter | None = None) -> Tally:
    """Count the episodes that a filter lets through, by their names; one pass over the table."""
    columns = [EPISODE.c[name] for name in GROUPED]
    query = select(*columns, func.count()).group_by(*columns)
    query = query.where(*conditions(which or EpisodeFilter()))
    with explained(log.where), log.engine.connect() as connection:
        rows = connection.execute(query).all()
    counts: Tally = {}
    for place, name in enumerate(GROUPED):
        found = counts.setdefault(name, {})
        for value, count in sorted((str(row[place]), int(row[-1])) for row in rows):
            found[value] = found.get(value, 0) + count
    return counts


def fates(log: LogReader, which: EpisodeFilter | None = None) -> list[tuple[str, str]]:
    """List id and status of the episodes that a filter lets through, the oldest first."""
    column = EPISODE.c
    query = select(column.id, column.status).where(*conditions(which or EpisodeFilter()))
    query = query.order_by(column.started, column.id)
    with explained(log.where), log.engine.connect() as connection:
        return [(str(id), str(status)) for id, status in connection.execute(query)]
