"""Digests what an episode's rows say, so that a later change of any of them is found.

The rows of an episode form a chain: each link is the SHA-256 of the link before it and of one row
in canonical JSON. The chain begins with the episode's run and its own row and goes on with its
rounds, checkpoints, inferences and events. The rows about its files have a chain of their own,
because a log that is no file keeps no files. Both ends lie in `episode.content_digest`.

Cells that are NULL are left out, so that a column which a later schema adds changes no digest.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from arena.log.jsontext import to_json
from arena.log.tables import Artifact, Base, Checkpoint, Episode, Event, Inference, Round, Run

# `Any` in this file: rows as the database gives them, each column with its own type.

_CHANGING = frozenset({"content_digest", "heartbeat", "pid", "process_started"})
"""Columns of an episode's row that are written after its end, or only while it is played."""

_NUMBER = "id"
"""Rows are numbered anew in another log; their order stays."""


def content_digest(connection: Connection, id: str) -> str | None:
    """Digest an episode as it lies in the log: 64 hexadecimal digits, a dash, and 64 of its files.

    None where there is no such episode.
    """
    episode = Episode.table()
    row = connection.execute(select(episode).where(episode.c.id == id)).mappings().first()
    if row is None:
        return None
    link = first_links(connection, row, without=_CHANGING)
    for kind in (Round, Checkpoint, Inference, Event):
        link = chained(link, ((kind.__tablename__, one) for one in _rows(connection, kind, id)))
    return f"{link}-{chained('', map(_file, _rows(connection, Artifact, id)))}"


def first_links(
    connection: Connection, row: RowMapping | dict[str, Any], *, without: frozenset[str]
) -> str:
    """Chain an episode's run and its own row, which is without some columns."""
    run = Run.table()
    runs = connection.execute(select(run).where(run.c.id == row["run_id"])).mappings()
    own = {name: value for name, value in row.items() if name not in without}
    return chained("", [*(("run", dict(one)) for one in runs), ("episode", own)])


def same_content(kept: str, found: str, *, files: bool) -> bool:
    """Tell whether two digests are of the same rows, and of the same files where they count."""
    return kept == found if files else kept.partition("-")[0] == found.partition("-")[0]


def _rows(connection: Connection, kind: type[Base], id: str) -> Iterable[dict[str, Any]]:
    table = kind.table()
    query = select(table).where(table.c.episode_id == id).order_by(*table.primary_key)
    for row in connection.execute(query).mappings():
        yield {name: value for name, value in row.items() if name != _NUMBER}


def _file(row: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Leave out the folder of a file: it has the name of the log, which may change."""
    return "artifact", {**row, "path": PurePath(row["path"]).name}


def chained(link: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the end of a chain that goes on from a link through rows, each with its table."""
    for name, row in rows:
        # read back, so that a tuple is the list that the database has, and sorted
        cells = {column: value for column, value in row.items() if value is not None}
        values = json.loads(to_json({**cells, "": name}))
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        link = hashlib.sha256(f"{link}\n{text}".encode()).hexdigest()
    return link
