"""Open a database for the log: addresses, SQLite's settings, and who may write when.

SQLite runs in WAL mode: readers never wait, one writer at a time. Write transactions begin with
BEGIN IMMEDIATE, because a transaction that reads first and writes later is refused at once when
another process wrote in between, however long the busy timeout is.
"""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry, StaticPool

from arena.log.database_errors import ANOTHER
from arena.log.file_systems import shared_kind
from arena.log.jsontext import from_json, to_json
from envs.errors import LogError, LogMissing

DEFAULT = "arena.db"


def default_url() -> str:
    """Name the log to use when none is named: `ARENA_LOG`, or arena.db in this folder."""
    return os.environ.get("ARENA_LOG") or DEFAULT


def named(target: str | Path | None) -> str | Path:
    """Return the log that is named, or the usual one where none is."""
    return default_url() if target is None else target


class Address(NamedTuple):
    """Say where a log is: the URL, the name to show, and the file, where it is one."""

    url: URL
    where: str
    path: Path | None


ELSEWHERE = (
    "use a file on a local disk (--log FILE), or PostgreSQL (--log postgresql://HOST/DATABASE)"
)
"""Where a log can lie that several machines write."""

_SHOWN = 80
"""Characters of a path that an error tells."""

_LONGEST_BESIDE = ".artifacts"
"""Ends the longest of the names that lie beside a log."""


def resolve(target: str | Path) -> Address:
    """Read a path or an SQLAlchemy URL.

    Raises:
        LogError: it is empty, has a scheme but is no URL that SQLAlchemy can read, or is no path
            to the system.
    """
    if target == "":
        raise LogError("expected a log, a file or a database URL, got an empty text")
    if isinstance(target, Path) or "://" not in target:
        path = Path(target)
        _require_path(path)
        return Address(URL.create("sqlite", database=str(path)), str(path), path)
    try:
        url = make_url(target)
    except ArgumentError as error:
        raise LogError(
            f"'{target}' is no database URL; give a path, or driver://host/db"
        ) from error
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    where = url.render_as_string(hide_password=True)
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return Address(url, where, None)
    path = Path(url.database or "")
    _require_path(path)
    return Address(url, where, path)


def _require_path(path: Path) -> None:
    """Refuse what the system takes for no path; that nothing is there is no fault."""
    for lies in (path, Path(f"{path}{_LONGEST_BESIDE}")):
        try:
            lies.stat()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:
            name = str(path) if len(str(path)) <= _SHOWN else f"{str(path)[:_SHOWN]}..."
            why = error.strerror if isinstance(error, OSError) else error
            raise LogError(f"no log can lie at {name}: {why}; give another path") from error


def may_write(path: Path) -> bool:
    """Whether a log that is there may be written, and so its folder, where its WAL lies."""
    if not path.exists():
        return True
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    return writable and not shared_kind(path)


def why_read_only(path: Path | None) -> str:
    """Say what keeps a log that is open read-only from being written; "" where nothing does."""
    if path is None or may_write(path):
        return ""
    if kind := shared_kind(path):
        return f" (it lies on a network file system, {kind}; {ELSEWHERE})"
    return " (the file or its folder may not be written)"


def check_file(path: Path, where: str, *, create: bool, read_only: bool) -> None:
    """Refuse a path that no log can lie at, before SQLite says so in fewer words.

    Raises:
        LogError: a folder, a missing file that may not be made, a missing or closed folder; for
            writing, a file system that is reached over a network.
    """
    if create and not read_only and (kind := shared_kind(path)):
        raise LogError(
            f"log {where} would lie on a network file system ({kind}), where SQLite can lose "
            f"what is written; {ELSEWHERE}"
        )
    if path.is_dir():
        raise LogError(f"log {where} is a folder; name a file in it, as in {path / 'arena.db'}")
    if path.exists():
        if not read_only and not os.access(path, os.W_OK):
            raise LogError(f"log {where} may not be written; open it read-only, {ANOTHER}")
        return
    if read_only or not create:
        raise LogMissing(f"there is no log at {where}; play with 'arena run' first, {ANOTHER}")
    if not path.parent.is_dir():
        raise LogError(f"there is no folder {path.parent} to hold a log; make it, {ANOTHER}")
    if not os.access(path.parent, os.W_OK):
        raise LogError(
            f"the folder {path.parent} may not be written; {ANOTHER.removeprefix('or ')}"
        )


def require_place(target: str | Path | None) -> Address:
    """Refuse a place at which a log could be neither made nor written; nothing is made yet.

    Raises:
        LogError: see `resolve` and `check_file`.
    """
    address = resolve(named(target))
    if address.path is not None:
        check_file(address.path, address.where, create=True, read_only=False)
    return address


def identity(path: Path) -> tuple[int, int] | None:
    """Tell a file from another one under its name; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _read_only_url(path: Path) -> URL:
    """Open without the right to write, even where nobody may write beside the file.

    Reading in WAL mode needs a file for shared memory next to the log. In a folder that is closed
    to us, or that several machines share, there can be none, and no other process that writes
    either, unless a WAL lies there.
    """
    query = {"mode": "ro", "uri": "true"}
    wal = path.with_name(path.name + "-wal")
    if not wal.exists() and (not os.access(path.parent, os.W_OK) or shared_kind(path)):
        query["immutable"] = "1"
    return URL.create("sqlite", database=f"file:{quote(str(path.absolute()))}", query=query)


_JSON: Mapping[str, Any] = {"json_serializer": to_json, "json_deserializer": from_json}


def connect(address: Address, *, read_only: bool, busy_seconds: float) -> Engine:
    """Make the engine; nothing is opened yet, except that the driver is imported.

    Raises:
        LogError: no such kind of database, or its driver is not installed.
    """
    url = address.url
    if read_only and address.path is not None:
        url = _read_only_url(address.path)
    try:
        if url.get_backend_name() != "sqlite":
            options = {"postgresql_readonly": True} if read_only else {}
            return create_engine(url, **_JSON, pool_pre_ping=True, execution_options=options)
        # A database in memory lives as long as its one connection.
        pool = None if address.path is not None else StaticPool
        engine = create_engine(url, **_JSON, poolclass=pool)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        hint = " (pip install 'fortress-arena[postgres]')" if "postgres" in url.drivername else ""
        raise LogError(f"log {address.where} needs a driver: {error}{hint}") from error
    _settle(engine, busy_seconds)
    return engine


def _settle(engine: Engine, busy_seconds: float) -> None:
    """Give every SQLite connection its settings, and take over when transactions begin."""

    @event.listens_for(engine, "connect")
    def _connected(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver would begin later than we mean
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(busy_seconds * 1000)}")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("arena_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """Open one write transaction: committed at the end, undone by an exception."""
    with engine.connect() as connection:
        connection = connection.execution_options(arena_writes=True)
        with connection.begin():
            yield connection


def use_wal(engine: Engine, busy_seconds: float) -> None:
    """Switch an SQLite file to write-ahead logging, once for its life.

    SQLite does not wait for a lock here, whatever the busy timeout; so we do.

    Raises:
        LogError: the file system has no shared memory, which the write-ahead log needs.
    """
    deadline = time.monotonic() + busy_seconds
    while True:
        try:
            mode = _ask_for_wal(engine)
        except Exception as error:
            busy = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            if not busy or time.monotonic() > deadline:
                raise OperationalError("PRAGMA journal_mode", None, error) from error
            time.sleep(0.02)
            continue
        if mode not in ("wal", "memory"):
            raise LogError(
                f"log {engine.url.database}: its file system does not serve SQLite's write-ahead "
                f"log (journal mode {mode}); {ANOTHER.removeprefix('or ')} on a local disk"
            )
        return


def _ask_for_wal(engine: Engine) -> str:
    """Look first, and ask outside a transaction, where alone SQLite grants it; returns the mode."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        mode = cursor.execute("PRAGMA journal_mode").fetchone()
        if mode != ("wal",):
            mode = cursor.execute("PRAGMA journal_mode = WAL").fetchone()
        cursor.close()
        return str(mode[0])
    finally:
        connection.close()
