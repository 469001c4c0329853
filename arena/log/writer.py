"""Writes one episode: rows are buffered, and each flush is one transaction."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from datetime import UTC, datetime
from itertools import repeat
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Table, func, insert, update

from arena.log.content import content_digest
from arena.log.heartbeat import Heartbeat
from arena.log.outcome import OutcomeRow
from arena.log.processes import Process
from arena.log.rows import (
    AccountRow,
    ArtifactRow,
    CheckpointRow,
    Ending,
    EventRow,
    InferenceRow,
    RoundRow,
)
from arena.log.tables import ACCOUNT, ARTIFACT, CHECKPOINT, EPISODE, EVENT, INFERENCE, ROUND
from envs.errors import LogError

BufferedRow = RoundRow | CheckpointRow | InferenceRow | EventRow | AccountRow | ArtifactRow

# The row classes and their tables; fields and columns have the same names.
TABLES: Mapping[type[BufferedRow], Table] = {
    RoundRow: ROUND,
    CheckpointRow: CHECKPOINT,
    InferenceRow: INFERENCE,
    EventRow: EVENT,
    AccountRow: ACCOUNT,
    ArtifactRow: ARTIFACT,
}

Transaction = Callable[[], AbstractContextManager[Connection]]


def _insert(connection: Connection, kind: type[BufferedRow], *, rows: list[Any], id: str) -> None:
    """Insert rows of one class; `Any`, since each column has its own type.

    Column by column, and past SQLAlchemy's statement for each row, which costs four times what
    SQLite's insert does. The types' own conversions are applied all the same.
    """
    table = TABLES[kind]
    dialect = connection.dialect
    known = {"episode_id", *(field.name for field in fields(kind))}
    # In the table's order: that of the compiled statement, whatever order it is given.
    names = [column.name for column in table.c if column.name in known]
    statement = insert(table).compile(dialect=dialect, column_keys=names)
    columns: list[Iterable[Any]] = []
    for name in names:
        values = repeat(id, len(rows)) if name == "episode_id" else map(attrgetter(name), rows)
        convert = table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        columns.append(values if convert is None else map(convert, values))
    parameters: list[Any] = list(zip(*columns, strict=True))
    if statement.positional:
        assert statement.positiontup == names
    else:
        parameters = [dict(zip(names, row, strict=True)) for row in parameters]
    connection.exec_driver_sql(str(statement), parameters)


class EpisodeWriter:
    """Buffer what an episode has to say, and write it down at checkpoints.

    A flush that fails loses nothing: the rows stay in the buffer and the next flush, or `finish`,
    writes them. One thread writes one episode.

    Args:
        episode_id: an episode that lies in the log as started.
        transaction: opens a write transaction of the log.
        process: plays the episode, as its row says.
        seconds: that the episode was played before, where it is taken up again.

    Attributes:
        id: the episode's id.
        heartbeat: gives signs of life for it; None where nobody else can see the log.
    """

    def __init__(
        self,
        episode_id: str,
        transaction: Transaction,
        *,
        process: Process,
        seconds: float = 0.0,
    ) -> None:
        self.id = episode_id
        self.heartbeat: Heartbeat | None = None
        self._transaction, self._process = transaction, process
        self._buffer: dict[type[BufferedRow], list[BufferedRow]] = {kind: [] for kind in TABLES}
        self._began = time.monotonic() - seconds
        self._finished = False

    @property
    def buffered(self) -> int:
        """Count the rows that are not in the database yet."""
        return sum(map(len, self._buffer.values()))

    @property
    def finished(self) -> bool:
        """Whether the episode's end is written."""
        return self._finished

    def _add(self, row: BufferedRow) -> None:
        if self._finished:
            raise LogError(f"episode {self.id} is finished; it takes no more rows")
        self._buffer[type(row)].append(row)

    def set_up(
        self,
        *,
        num_classes: int,
        exit_names: Sequence[Sequence[str]] | None,
        clone_normalisation: str | None = None,
        test_overlap: int | None = None,
    ) -> None:
        """Write down at once what is known when the game is set up, before its first query.

        Args:
            num_classes: of the victim.
            exit_names: of each deployed defence, in order; None where they are not known.
            clone_normalisation: whose mean and deviation clones normalise images by.
            test_overlap: images that clones are scored on in the attacker's pool.

        Raises:
            LogError: the database refused.
        """
        names = None if exit_names is None else [list(names) for names in exit_names]
        values: dict[str, object] = {
            "num_classes": num_classes,
            "exit_names": names,
            "clone_normalisation": clone_normalisation,
            "test_overlap": test_overlap,
        }
        with self._transaction() as connection:
            self._update(connection, values)

    def charge(self, queries_used: int) -> None:
        """Write down at once what is charged, before a victim elsewhere is asked.

        Raises:
            LogError: see `flush`.
        """
        with self._transaction() as connection:
            self._update(connection, {"queries_used": queries_used})

    def round(self, row: RoundRow) -> None:
        """Add the sum of a bucket of rounds."""
        self._add(row)

    def checkpoint(self, row: CheckpointRow) -> None:
        """Add a measurement along the budget."""
        self._add(row)

    def inference(self, row: InferenceRow) -> None:
        """Add what the attacker says about the victim."""
        self._add(row)

    def account(self, row: AccountRow) -> None:
        """Add what an account of the attacker was charged."""
        self._add(row)

    def artifact(self, row: ArtifactRow) -> None:
        """Add a file."""
        self._add(row)

    def event(
        self, kind: str, message: str, *, queries_used: int | None = None, **data: object
    ) -> None:
        """Add something that happened just now."""
        self._add(
            EventRow(
                time=datetime.now(UTC),
                kind=kind,
                message=message,
                queries_used=queries_used,
                data=data,
            )
        )

    def flush(self) -> None:
        """Write all buffered rows in one transaction.

        Raises:
            LogError: the database refused, or the episode is not this process's any more; nothing
                was written and nothing was lost.
        """
        if self.buffered:
            self._write({})

    def drop_buffered(self) -> None:
        """Forget the rows that are not in the database yet: one of them cannot be written."""
        for rows in self._buffer.values():
            rows.clear()

    def finish(
        self, status: Ending, outcome: OutcomeRow | None = None, *, error: str | None = None
    ) -> None:
        """Write what is buffered, the status and the outcome, in one transaction.

        Args:
            status: how the episode ended.
            outcome: whatever was measured, also of an episode that was cut short.
            error: one line, for the status "error".

        Raises:
            LogError: the database refused; call it again. Or the episode is finished already.
        """
        if self._finished:
            raise LogError(f"episode {self.id} is finished already")
        closing: dict[str, object] = {} if outcome is None else asdict(outcome)
        closing |= {
            "status": status,
            "error": error,
            "finished": datetime.now(UTC),
            "wall_seconds": time.monotonic() - self._began,
        }
        self._write(closing)
        self._finished = True
        if self.heartbeat is not None:
            self.heartbeat.stop()

    def beat(self) -> None:
        """Give a sign of life in the episode's row.

        Raises:
            LogError: see `flush`.
        """
        if not self._finished:
            with self._transaction() as connection:
                self._update(connection, {})

    def _write(self, closing: Mapping[str, object]) -> None:
        """Write the buffer and values of the episode's own row; forget only what is in."""
        with self._transaction() as connection:
            self._update(connection, closing)
            for kind, rows in self._buffer.items():
                if rows:
                    _insert(connection, kind, rows=rows, id=self.id)
            if closing:  # last: it is of everything
                digest = content_digest(connection, self.id)
                self._update(connection, {"content_digest": digest})
        self.drop_buffered()

    def _update(self, connection: Connection, values: Mapping[str, object]) -> None:
        """Write values and a sign of life into the row, as long as it is this process's."""
        column, process = EPISODE.c, self._process
        mine = (
            (column.id == self.id)
            & (column.pid == process.pid)
            & (column.host == process.host)
            & (column.process_started == process.started)
        )
        row = update(EPISODE).where(mine)
        if connection.execute(row.values(heartbeat=func.now(), **values)).rowcount != 1:
            raise LogError(
                f"episode {self.id} was removed from the log or taken up by another process; "
                f"this one writes no more into it"
            )
