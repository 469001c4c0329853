"""Read a log: find episodes, list what was measured, ask whether a plan was played already."""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, Row, Select, Table, Text, cast, func, select

from arena.log.batches import batches
from arena.log.cells import read_cells, require_sound
from arena.log.collector import rare_collections
from arena.log.database_errors import explained
from arena.log.episode_filter import EpisodeFilter
from arena.log.jsontext import to_json
from arena.log.narrowing import narrow
from arena.log.rows import (
    AccountRow,
    ArtifactRow,
    CheckpointRow,
    EpisodeRow,
    EventRow,
    InferenceRow,
    RoundAnswers,
    RoundRow,
    RunRow,
)
from arena.log.settings_filter import require_known
from arena.log.tables import ACCOUNT, ARTIFACT, CHECKPOINT, EPISODE, EVENT, INFERENCE, ROUND, RUN
from envs.errors import LogError, UnknownName

# What explains an episode, but fills no table.
_LONG = ("plan", "attacker_params", "defender_params", "versions")
_AS_JSON = ("exit_names", "clone_metrics", *_LONG)
"""Columns that the database keeps as JSON."""
# How many of the newest ids are looked through for a suggestion.
_RECENT = 1000


_Row = TypeVar(
    "_Row",
    RunRow,
    EpisodeRow,
    RoundRow,
    RoundAnswers,
    CheckpointRow,
    InferenceRow,
    EventRow,
    AccountRow,
    ArtifactRow,
)
Part = TypeVar(
    "Part",
    RoundRow,
    RoundAnswers,
    CheckpointRow,
    InferenceRow,
    EventRow,
    AccountRow,
    ArtifactRow,
)

_PARTS: Mapping[type[object], tuple[Table, str]] = {
    RoundRow: (ROUND, "bucket"),
    RoundAnswers: (ROUND, "bucket"),
    CheckpointRow: (CHECKPOINT, "index"),
    InferenceRow: (INFERENCE, "id"),
    EventRow: (EVENT, "id"),
    AccountRow: (ACCOUNT, "account"),
    ArtifactRow: (ARTIFACT, "id"),
}
"""Where the parts of an episode lie, and the column that orders them."""


def _columns(
    kind: type[_Row], table: Table, *, without: tuple[str, ...] = ()
) -> Select[*tuple[object, ...]]:
    """Select the columns that a row class has fields for, but for some."""
    names = [field.name for field in fields(kind) if field.name not in without]
    return select(*(table.c[name] for name in names))


def _episode(values: dict[str, Any]) -> EpisodeRow:
    """Build a row from all of its fields, without `__init__`.

    That of a frozen class sets every field by a call: for 45 of them it takes as long as the query.
    """
    row = object.__new__(EpisodeRow)
    row.__dict__.update(values)
    return row


class LogReader:
    """Answer questions about a log; `arena.log.store.Log` is one that also writes.

    Attributes:
        where: the log as the user named it, without passwords.
        engine: for statements of one's own.
    """

    def __init__(self, engine: Engine, where: str) -> None:
        self.engine = engine
        self.where = where

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with explained(self.where), self.engine.connect() as connection:
            yield connection

    def _read(self, kind: type[_Row], query: Select[*tuple[object, ...]]) -> list[_Row]:
        """Run a query over the columns of a row class and build the rows."""
        return [kind(**row) for row in self._rows(query)]

    def _rows(self, query: Select[*tuple[object, ...]]) -> list[dict[str, Any]]:
        """Run a query over columns; gives each row by the names of its columns."""
        with self._reading() as connection:
            return read_cells(connection, query, sound=True)

    def of_episodes(self, kind: type[Part], ids: Iterable[str]) -> dict[str, list[Part]]:
        """List the rows of one kind of each of many episodes, in order, by a query for hundreds.

        An episode that has none, or is not there, has an empty list.
        """
        table, order = _PARTS[kind]
        found: dict[str, list[Part]] = {}
        for batch in batches(ids):
            found |= {id: [] for id in batch}
            mine = _columns(kind, table).where(table.c.episode_id.in_(batch))
            query = mine.add_columns(table.c.episode_id).order_by(table.c[order])
            with self._reading() as connection:
                rows = connection.execute(query).all()
                columns = {str(column.key): column.type for column in query.selected_columns}
                require_sound(columns, rows)
            names = list(columns)[:-1]
            for *cells, id in rows:
                found[id].append(kind(**dict(zip(names, cells, strict=True))))
        return found

    def runs(self) -> list[RunRow]:
        """List all runs, the newest first."""
        query = _columns(RunRow, RUN).order_by(RUN.c.created.desc(), RUN.c.id)
        return self._read(RunRow, query)

    @rare_collections()
    def episodes(
        self, which: EpisodeFilter | None = None, *, brief: bool = False
    ) -> list[EpisodeRow]:
        """List the episodes a filter lets through; all of them, the newest first, without one.

        Args:
            which: the filter.
            brief: leave plan, parameters, versions and digest empty; a long list comes twice as
                fast.
        """
        without = _LONG if brief else ()
        behind = (*without, "content_digest") if brief else ()
        query = narrow(_columns(EpisodeRow, EPISODE, without=behind), which)
        rows = self._rows(query)
        if not rows:
            with self._reading() as connection:
                require_known(connection, which)
        return [_episode(row | {name: {} for name in without}) for row in rows]

    def ids(self, which: EpisodeFilter | None = None) -> list[str]:
        """List the ids of the episodes a filter lets through, in the order of `episodes`."""
        return [row.id for row in self.columns(("id",), which)]

    def columns(
        self, names: Iterable[str], which: EpisodeFilter | None = None
    ) -> Sequence[Row[*tuple[Any, ...]]]:
        """List the episodes a filter lets through, in the order of `episodes`, a part of each.

        Returns:
            rows that have the named columns only; thousands come in a fraction of the time.
        """
        columns = {name: EPISODE.c[name] for name in names}
        with self._reading() as connection:
            rows = connection.execute(narrow(select(*columns.values()), which)).all()
            if not rows:
                require_known(connection, which)
            require_sound({name: column.type for name, column in columns.items()}, rows)
        return rows

    def count(self) -> int:
        """Count the episodes, whatever their rows hold."""
        with self._reading() as connection:
            found: int = connection.execute(select(func.count(EPISODE.c.id))).scalar_one()
        return found

    def episodes_as_json(self, which: EpisodeFilter | None = None) -> Iterator[str]:
        """Give each episode as one line of JSON, with all columns, in the order of `episodes`.

        What the database keeps as JSON is passed on as it stands: reading it and writing it again
        takes longer than all the rest.
        """
        plain = [field.name for field in fields(EpisodeRow) if field.name not in _AS_JSON]
        texts = (cast(EPISODE.c[name], Text) for name in _AS_JSON)
        columns = (*(EPISODE.c[name] for name in plain), *texts)
        with self._reading() as connection:
            rows = connection.execute(narrow(select(*columns), which)).all()
            if not rows:
                require_known(connection, which)
            require_sound({name: EPISODE.c[name].type for name in plain}, rows)
        for row in rows:
            told = to_json(dict(zip(plain, row, strict=False)))
            kept = zip(_AS_JSON, row[len(plain) :], strict=True)
            yield told[:-1] + "".join(f',"{name}":{text or "null"}' for name, text in kept) + "}"

    def episode(self, id: str) -> EpisodeRow:
        """Find one episode by its id or by a beginning of it that no other shares.

        Raises:
            UnknownName: none begins so; the message suggests the nearest.
            LogError: several begin so, or the log is empty.
        """
        whole = self.whole_id(id)
        return self.exactly([whole])[whole]

    def whole_id(self, id: str) -> str:
        """Complete the id of one episode, as `episode` finds it; its row is not read."""
        wanted = id.strip().lower()
        # Eleven are enough to find the exact one among, or to name some of, the ambiguous.
        found = self.ids(EpisodeFilter(id_prefix=wanted, limit=11)) if wanted else []
        if wanted in found or len(found) == 1:
            return wanted if wanted in found else found[0]
        if not found:
            raise self._no_episode(id)
        names = ", ".join(found[:5])
        raise LogError(
            f"'{id}' begins the ids of {'more than 10' if len(found) > 10 else len(found)} "
            f"episodes ({names}{', ...' if len(found) > 5 else ''}); give more digits"
        )

    def exactly(self, ids: Iterable[str]) -> dict[str, EpisodeRow]:
        """Find many episodes by their whole ids; those that are not there are missing."""
        query = _columns(EpisodeRow, EPISODE)
        found = (
            self._rows(query.where(EPISODE.c.id.in_(batch)))
            for batch in batches(dict.fromkeys(ids))
        )
        return {row["id"]: _episode(row) for rows in found for row in rows}

    def _no_episode(self, id: str) -> LogError | UnknownName:
        """Say that there is none, and which might be meant."""
        column = EPISODE.c
        with self._reading() as connection:
            query = select(column.id).order_by(column.started.desc()).limit(_RECENT)
            recent = list(connection.execute(query).scalars())
        if not recent:
            return LogError(f"log {self.where} holds no episodes; play some with 'arena run'")
        close = difflib.get_close_matches(id, recent, n=1, cutoff=0.5)
        return UnknownName("episode", id, close or recent[:5])

    def finished(self, plan_hash: str) -> EpisodeRow | None:
        """Find the newest successful episode of a plan, so that it need not be played again."""
        which = EpisodeFilter(plan_hash=plan_hash, status="success", limit=1)
        return next(iter(self.episodes(which)), None)

    def rounds(self, id: str) -> list[RoundRow]:
        """List an episode's buckets of rounds in order; empty for an id that is not there."""
        return self.of_episodes(RoundRow, [id])[id]

    def checkpoints(self, id: str) -> list[CheckpointRow]:
        """List an episode's measurements in order."""
        return self.of_episodes(CheckpointRow, [id])[id]

    def inferences(self, id: str) -> list[InferenceRow]:
        """List what the attacker said about the victim, in order."""
        return self.of_episodes(InferenceRow, [id])[id]

    def accounts(self, id: str) -> list[AccountRow]:
        """List what each account of the attacker was charged, in order."""
        return self.of_episodes(AccountRow, [id])[id]

    def artifacts(self, id: str) -> list[ArtifactRow]:
        """List an episode's files in order."""
        return self.of_episodes(ArtifactRow, [id])[id]

    def events(self, id: str | None = None) -> list[EventRow]:
        """List an episode's events in order; without an id, those of the log as a whole."""
        if id is not None:
            return self.of_episodes(EventRow, [id])[id]
        query = _columns(EventRow, EVENT).where(EVENT.c.episode_id.is_(None))
        return self._read(EventRow, query.order_by(EVENT.c.id))
