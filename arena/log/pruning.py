"""Removes what a log does not need: episodes with all that belongs to them, and stray files."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, delete, exists
from sqlalchemy.exc import OperationalError

from arena.log import artifacts
from arena.log.database_errors import explained
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow
from arena.log.store import Log
from arena.log.tables import CHILDREN, EPISODE, RUN
from envs.errors import LogError


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, in counts; `bytes` is of the episodes' files."""

    episodes: int
    runs: int
    files: int
    bytes: int


def superseded(log: LogReader) -> list[str]:
    """List ids of the ended plays of plans that a newer success has: retries, what was redone."""
    settled: dict[str, str] = {}
    found = []
    for row in log.columns(("id", "kind", "status", "plan_hash")):  # the newest first
        if row.kind != "play" or row.status == "started":
            continue
        if row.plan_hash in settled:
            found.append(row.id)
        elif row.status == "success":
            settled[row.plan_hash] = row.id
    return found


def strays(log: LogReader) -> list[Path]:
    """List the files beside a log that no row is about, but for those of running episodes."""
    folder = artifacts.folder_of(log.where)
    if folder is None or not folder.is_dir():
        return []
    episodes = log.columns(("id", "status"))
    running = {row.id for row in episodes if row.status == "started"}
    known = {path.resolve() for path in _files_of(log, [row.id for row in episodes])}
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.resolve() not in known
        and path.relative_to(folder).parts[0] not in running
    )


def prune(log: Log, ids: Iterable[str]) -> Pruned:
    """Remove episodes with all that belongs to them, and runs that have none left by that.

    Rows are not read for it, so that damaged ones can be removed.

    Raises:
        LogError: one of them is still being played, or the log cannot be written.
    """
    known = {row.id: row for row in log.columns(("id", "run_id", "status"))}
    rows = [known[log.whole_id(id)] for id in ids]
    if playing := [row.id for row in rows if row.status == "started"]:
        raise LogError(f"episode {playing[0]} is still being played; prune it when it has ended")
    files = _files_of(log, [row.id for row in rows])
    runs = 0
    with log.writing() as connection:
        for row in rows:
            remove_rows(connection, row.id)
        for id in dict.fromkeys(row.run_id for row in rows):
            empty = ~exists().where(EPISODE.c.run_id == RUN.c.id)
            runs += connection.execute(delete(RUN).where(RUN.c.id == id, empty)).rowcount
    count, size = remove_files(log, files)
    if rows:
        log.event("pruned", f"removed {len(rows)} episodes and {runs} runs")
    return Pruned(len(rows), runs, count, size)


def remove_rows(connection: Connection, id: str) -> None:
    """Remove an episode and all rows that belong to it."""
    for table in CHILDREN:
        connection.execute(delete(table).where(table.c.episode_id == id))
    connection.execute(delete(EPISODE).where(EPISODE.c.id == id))


def _files_of(log: LogReader, ids: Sequence[str]) -> list[Path]:
    """List the episodes' files, without those whose paths lead elsewhere."""
    files = log.of_episodes(ArtifactRow, ids)
    places = [
        artifacts.inside(log.where, id, artifact.path)
        for id, of_episode in files.items()
        for artifact in of_episode
    ]
    return [path for path in places if path is not None]


def remove_strays(log: Log, files: Iterable[Path]) -> int:
    """Remove files that no row is about, as `strays` lists them; returns how many.

    Raises:
        LogError: the log may not be written, and so what lies beside it.
    """
    log.require_writable()
    return remove_files(log, files)[0]


def remove_files(log: LogReader, files: Iterable[Path]) -> tuple[int, int]:
    """Remove files beside the log and folders that they leave empty; returns count and bytes.

    A file outside the log's own folder is somebody's and stays.
    """
    folder = artifacts.folder_of(log.where)
    count = size = 0
    for path in files:
        if folder is None or not path.resolve().is_relative_to(folder.resolve()):
            continue
        if path.is_file():
            count, size = count + 1, size + path.stat().st_size
            path.unlink()
        for parent in (path.parent, folder):
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
    return count, size


def compact(log: Log) -> bool:
    """Give what was freed back to the disk; False where another process is at the log."""
    if log.engine.dialect.name != "sqlite":
        return False
    connection = log.engine.raw_connection()
    try:
        connection.cursor().execute("VACUUM")
    except Exception as error:
        if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return False
        with explained(log.where):
            raise OperationalError("VACUUM", None, error) from error
    finally:
        connection.close()
    return True
