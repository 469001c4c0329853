"""Carry the log into files that other programs read: CSV, JSON lines, Parquet.

Rows of an episode come with the episode's scenario, players and seed, so that a file stands alone.
In CSV, structured values are written as JSON, and texts that a spreadsheet would compute begin
with an apostrophe. Files appear whole or not at all.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TextIO

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Double,
    Integer,
    Select,
    Table,
    select,
)

from arena.log.database_errors import explained
from arena.log.episode_filter import EpisodeFilter
from arena.log.jsontext import to_json
from arena.log.narrowing import narrow
from arena.log.reader import LogReader
from arena.log.settings_filter import require_known
from arena.log.tables import (
    ACCOUNT,
    ARTIFACT,
    CHECKPOINT,
    EPISODE,
    EVENT,
    INFERENCE,
    ROUND,
    Histograms,
    Names,
    UtcDateTime,
)
from envs.atomic_file import whole_file
from envs.errors import ArenaError, LogError, UnknownName, printable

TABLES: Mapping[str, Table] = {
    "episodes": EPISODE,
    "checkpoints": CHECKPOINT,
    "rounds": ROUND,
    "inferences": INFERENCE,
    "events": EVENT,
    "accounts": ACCOUNT,
    "artifacts": ARTIFACT,
}
_BATCH = 5_000
_FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""What a spreadsheet takes for the beginning of a formula; an apostrophe makes it a text."""

# A batch of rows as the database gave them; `Any`, since each column has its own type.
Batches = Iterator[Sequence[Sequence[Any]]]
Columns = list[Column[Any]]


def export(
    log: LogReader,
    table: str,
    format: str,
    path: str | Path | TextIO,
    *,
    which: EpisodeFilter | None = None,
) -> int:
    """Write one table of a log to a file.

    Args:
        log: an open log.
        table: "episodes", "checkpoints", "rounds", "inferences", "events", "accounts" or
            "artifacts".
        format: "csv", "jsonl" or "parquet".
        path: the file, which is replaced; or an open text stream, for csv and jsonl.
        which: the episodes that are meant; all of them (and the log's own events) where None.

    Returns:
        How many rows were written.

    Raises:
        UnknownName: no such table or format, or no plan has a setting that is filtered by.
        LogError: the log cannot be read or the file cannot be written.
        ArenaError: Parquet without pyarrow, or into a stream.
    """
    if table not in TABLES:
        raise UnknownName("table", table, TABLES)
    if format not in _WRITERS:
        raise UnknownName("format", format, _WRITERS)
    columns, query = _query(table, which)
    with explained(log.where), log.engine.connect() as connection:
        require_known(connection, which)
        result = connection.execution_options(yield_per=_BATCH).execute(query)
        return _WRITERS[format](columns, result.partitions(), path)


def _query(table: str, which: EpisodeFilter | None) -> tuple[Columns, Select[*tuple[Any, ...]]]:
    """Select a table's columns, with those of the episode that tell its rows apart."""
    child = TABLES[table]
    columns: Columns = list(child.c)
    order: list[ColumnElement[Any]] = [EPISODE.c.started, EPISODE.c.id]
    source: Any = child
    if child is not EPISODE:
        mine = [column for column in child.c if column.name not in ("id", "episode_id")]
        of = [EPISODE.c[name] for name in ("scenario_name", "attacker", "defender", "seed")]
        columns = [child.c.episode_id, *of, *mine]
        order.append(list(child.primary_key)[-1])
        # An event may belong to no episode; it goes out with an unfiltered export.
        source = child.outerjoin(EPISODE) if which is None else child.join(EPISODE)
    query = select(*columns).select_from(source).order_by(*order)
    if which is not None:
        meant = narrow(select(EPISODE.c.id), which).subquery()
        query = query.where(EPISODE.c.id.in_(select(meant.c.id)))
    return columns, query


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """Lend a name beside the file, and move it there when all went well.

    Raises:
        LogError: the disk refuses.
    """
    try:
        with whole_file(path) as part:
            yield part
    except OSError as error:
        raise LogError(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def _text(path: str | Path | TextIO) -> Iterator[IO[str]]:
    """Open a file for text, or pass on a stream that is open already."""
    if not isinstance(path, str | Path):
        yield path
        return
    with _whole_file(Path(path)) as part, part.open("w", encoding="utf-8", newline="") as file:
        yield file


def _cell(value: object) -> object:
    """Write a value so that a spreadsheet shows it and a program can read it back."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bool | dict | list | tuple):
        return to_json(value)
    if isinstance(value, str):
        # a carriage return ends a row for readers, and is not quoted
        value = printable(value.replace("\r", "\n"))
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value


def _write_csv(columns: Columns, batches: Batches, path: str | Path | TextIO) -> int:
    count = 0
    with _text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([column.name for column in columns])
        for rows in batches:
            writer.writerows([_cell(value) for value in row] for row in rows)
            count += len(rows)
    return count


def _write_jsonl(columns: Columns, batches: Batches, path: str | Path | TextIO) -> int:
    names = [column.name for column in columns]
    count = 0
    with _text(path) as file:
        for rows in batches:
            file.writelines(to_json(dict(zip(names, row, strict=True))) + "\n" for row in rows)
            count += len(rows)
    return count


def _write_parquet(columns: Columns, batches: Batches, path: str | Path | TextIO) -> int:
    if not isinstance(path, str | Path):
        raise ArenaError("parquet goes into a file, not into a stream; name one")
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise ArenaError(
            "parquet needs pyarrow; pip install 'fortress-arena[analysis]', or export csv or jsonl"
        ) from error
    schema = pa.schema([(column.name, _arrow_type(column, pa)) for column in columns])
    structured = [isinstance(column.type, JSON | Names) for column in columns]
    count = 0
    with _whole_file(Path(path)) as part, pq.ParquetWriter(part, schema) as writer:
        for rows in batches:
            arrays = [
                [None if v is None else to_json(v) for v in values] if as_text else values
                for values, as_text in zip(zip(*rows, strict=True), structured, strict=True)
            ]
            typed = [pa.array(a, f.type) for a, f in zip(arrays, schema, strict=True)]
            writer.write_batch(pa.record_batch(typed, schema=schema))
            count += len(rows)
    return count


def _arrow_type(column: Column[Any], pa: Any) -> Any:
    """Choose the Arrow type of a column; `Any`, since pyarrow is untyped and optional."""
    kind = column.type
    if isinstance(kind, UtcDateTime):
        return pa.timestamp("us", tz="UTC")
    if isinstance(kind, Histograms):
        return pa.list_(pa.list_(pa.int64()))
    if isinstance(kind, Integer | BigInteger):
        return pa.int64()
    if isinstance(kind, Double):
        return pa.float64()
    return pa.bool_() if isinstance(kind, Boolean) else pa.string()


_WRITERS: Mapping[str, Callable[[Columns, Batches, str | Path | TextIO], int]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
FORMATS = tuple(_WRITERS)
