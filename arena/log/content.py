"""Digests what an episode's rows say, so that a later change of any of them is found.

The rows of an episode form a chain: each link is the SHA-256 of the link before it and of one row
in canonical JSON. The chain begins with the episode's run and its own row and goes on with its
rounds, checkpoints, inferences, events and accounts. The rows about its files have a chain of their
own, because a log that is no file keeps no files. Both ends lie in `episode.content_digest`.

Cells that are NULL are left out, so that a column which a later schema adds changes no digest.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, select

from arena.log.batches import batches
from arena.log.cells import read_cells
from arena.log.jsontext import canonical_json
from arena.log.tables import ACCOUNT, ARTIFACT, CHECKPOINT, EPISODE, EVENT, INFERENCE, ROUND, RUN

# `Any` in this file: rows as the database gives them, each column with its own type.
Cells = Mapping[str, Any]

_CHAINED = (ROUND, CHECKPOINT, INFERENCE, EVENT, ACCOUNT)

_CHANGING = frozenset({"content_digest", "heartbeat", "pid", "process_started"})
"""Columns of an episode's row that are written after its end, or only while it is played."""

_NUMBER = "id"
"""Rows are numbered anew in another log; their order stays."""


def content_digest(connection: Connection, id: str) -> str | None:
    """Digest an episode as it lies in the log: 64 hexadecimal digits, a dash, and 64 of its files.

    None where there is no such episode.
    """
    return content_digests(connection, [id]).get(id)


def content_digests(connection: Connection, ids: Iterable[str]) -> dict[str, str]:
    """Digest many episodes, by id; those that are not there are missing."""
    digests: dict[str, str] = {}
    for contents in contents_of(connection, ids):
        digests |= {id: contents.digest(id) for id in contents.episodes}
    return digests


class Contents(NamedTuple):
    """All rows of a batch of episodes.

    Attributes:
        begun: first links of the chains, which are of the runs, by the runs' ids.
        episodes: their own rows, by their ids, in the order asked for.
        parts: rows of each kind, by episode and in order, without their numbers.
    """

    begun: Mapping[str, str]
    episodes: Mapping[str, Cells]
    parts: Mapping[Table, Mapping[str, Sequence[Cells]]]

    def digest(self, id: str) -> str:
        """Digest one of the episodes; see `content_digest`."""
        row = self.episodes[id]
        own = {name: value for name, value in row.items() if name not in _CHANGING}
        link = chained(self.begun.get(row["run_id"], ""), [("episode", own)])
        for kind in _CHAINED:
            link = chained(link, ((kind.name, one) for one in self.parts[kind].get(id, ())))
        return f"{link}-{chained('', map(_file, self.parts[ARTIFACT].get(id, ())))}"


def contents_of(
    connection: Connection, ids: Iterable[str], *, sound: bool = False
) -> Iterator[Contents]:
    """Read all rows of many episodes, in batches, by a query for each table.

    Args:
        connection: of the log.
        ids: of the episodes; those that are not there are missing.
        sound: check that each cell is one of its column's; see `read_cells`.
    """
    for batch in batches(ids):
        rows = read_cells(connection, select(EPISODE).where(EPISODE.c.id.in_(batch)), sound=sound)
        by_id = {row["id"]: row for row in rows}
        wanted = {row["run_id"] for row in rows}
        runs = read_cells(connection, select(RUN).where(RUN.c.id.in_(wanted)), sound=sound)
        yield Contents(
            {row["id"]: chained("", [("run", row)]) for row in runs},
            {id: by_id[id] for id in batch if id in by_id},
            {kind: _parts(connection, kind, batch, sound=sound) for kind in (*_CHAINED, ARTIFACT)},
        )


def first_links(connection: Connection, row: Cells, *, without: frozenset[str]) -> str:
    """Chain an episode's run and its own row, which is without some columns."""
    runs = connection.execute(select(RUN).where(RUN.c.id == row["run_id"])).mappings()
    own = {name: value for name, value in row.items() if name not in without}
    return chained("", [*(("run", dict(one)) for one in runs), ("episode", own)])


def same_content(kept: str, found: str, *, files: bool) -> bool:
    """Tell whether two digests are of the same rows, and of the same files where they count."""
    return kept == found if files else kept.partition("-")[0] == found.partition("-")[0]


def _parts(
    connection: Connection, kind: Table, ids: Sequence[str], *, sound: bool
) -> dict[str, list[Cells]]:
    query = select(kind).where(kind.c.episode_id.in_(ids)).order_by(*kind.primary_key)
    rows: dict[str, list[Cells]] = defaultdict(list)
    for row in read_cells(connection, query, sound=sound):
        row.pop(_NUMBER, None)
        rows[row["episode_id"]].append(row)
    return rows


def _file(row: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """Leave out the folder of a file: it has the name of the log, which may change."""
    return "artifact", {**row, "path": PurePath(row["path"]).name}


def chained(link: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """Return the end of a chain that goes on from a link through rows, each with its table."""
    for name, row in rows:
        cells = {column: value for column, value in row.items() if value is not None}
        cells[""] = name
        text = canonical_json(cells)
        link = hashlib.sha256(f"{link}\n{text}".encode()).hexdigest()
    return link
