"""Looks after a log: check that it is sound, merge another in, remove what is not needed.

Everything here works on whole episodes: with its rounds, checkpoints, inferences, events and files
an episode stays or goes.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Table, delete, exists, insert, select, update
from sqlalchemy.exc import OperationalError

from arena.log import artifacts
from arena.log.engine import transaction
from arena.log.faults import explained
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow, EpisodeRow, RoundRow
from arena.log.store import Log
from arena.log.tables import Artifact, Checkpoint, Episode, Event, Inference, Round, Run
from envs.errors import LogError

# `Any` in this file: rows as the database gives them, each column with its own type.

CHILDREN = (Round, Checkpoint, Inference, Event, Artifact)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a log.

    Attributes:
        kind: "fault" breaks the log's promise; "note" is only worth knowing.
        what: which check found it.
        message: one line.
    """

    kind: Literal["fault", "note"]
    what: str
    message: str


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did, in counts; `unfinished` episodes are still played and stay out."""

    runs: int
    episodes: int
    duplicates: int
    unfinished: int
    files: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed, in counts; `bytes` is of the episodes' files."""

    episodes: int
    runs: int
    files: int
    bytes: int


def check(log: LogReader) -> list[Finding]:
    """Examine a log: the database itself, its references, its accounts and its files.

    Raises:
        LogError: it cannot be read at all.
    """
    with explained(log.where), log.engine.connect() as connection:
        findings = [*_sound(connection), *_references(connection)]
    for row in log.episodes(brief=True):
        findings += _accounts(row, log.rounds(row.id), log)
    return findings + list(_files(log))


def _sound(connection: Connection) -> Iterator[Finding]:
    """Ask SQLite whether its pages and indexes are in order."""
    if connection.dialect.name != "sqlite":
        return
    for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
        if line != "ok":
            yield Finding("fault", "integrity", str(line))


def _references(connection: Connection) -> Iterator[Finding]:
    """Look for rows whose episode or run is not there."""
    episode, run = Episode.table(), Run.table()
    parents = [(episode, episode.c.run_id, run.c.id)]
    parents += [(kind.table(), kind.table().c.episode_id, episode.c.id) for kind in CHILDREN]
    for table, key, parent in parents:
        lost = select(key).where(key.is_not(None), ~exists().where(parent == key)).distinct()
        for (name,) in connection.execute(lost):
            yield Finding("fault", "references", f"{table.name} has rows of {parent.table.name} "
                                                 f"{name}, which is not there")  # fmt: skip


def _accounts(row: EpisodeRow, rounds: Sequence[RoundRow], log: LogReader) -> Iterator[Finding]:
    """Hold an episode's rounds against each other and against its outcome."""
    next_round = asked = 0
    for bucket in rounds:
        asked += bucket.attack_answered
        if bucket.first_round != next_round or bucket.queries_used != asked:
            yield Finding("fault", "accounts", f"episode {row.id}: bucket {bucket.bucket} does "
                          f"not follow on the one before it")  # fmt: skip
            return
        if sum(bucket.attack_exits) != bucket.attack_answered:
            yield Finding("fault", "accounts", f"episode {row.id}: the exits of bucket "
                          f"{bucket.bucket} are not those of its answers")  # fmt: skip
        next_round += bucket.rounds
    points = [point.queries_used for point in log.checkpoints(row.id)]
    if points != sorted(points):
        yield Finding("fault", "accounts", f"episode {row.id}: its checkpoints go back in budget")
    if row.status != "success":
        return
    if rounds and (row.queries_used, row.answer_digest) != (asked, rounds[-1].answer_digest):
        yield Finding("fault", "accounts", f"episode {row.id}: its outcome is not what its rounds "
                      f"add up to")  # fmt: skip
    if row.finished is None:
        yield Finding("fault", "accounts", f"episode {row.id}: a success without an end")


def _files(log: LogReader) -> Iterator[Finding]:
    """Hold the files beside the log against the rows about them."""
    known: set[Path] = set()
    for row in log.episodes(brief=True):
        for artifact in log.artifacts(row.id):
            path = artifacts.locate(log.where, artifact.path)
            known.add(path.resolve())
            fault = _file_fault(path, artifact)
            if fault:
                yield Finding("fault", "files", f"episode {row.id}: {artifact.path} {fault}")
    left = [path for path in strays(log) if path.resolve() not in known]
    if left:
        yield Finding("note", "files", f"{len(left)} files belong to no episode (left by a run "
                      f"that was killed): {left[0]}{', ...' if left[1:] else ''}; "
                      f"'arena log prune --strays' removes them")  # fmt: skip


def _file_fault(path: Path, artifact: ArtifactRow) -> str:
    if not path.is_file():
        return "is not there"
    if path.stat().st_size != artifact.bytes:
        return f"has {path.stat().st_size} bytes and should have {artifact.bytes}"
    return "" if artifacts.digest(path) == artifact.sha256 else "was altered: its SHA-256 differs"


def strays(log: LogReader) -> list[Path]:
    """List the files beside a log that no row is about, but for those of running episodes."""
    folder = artifacts.folder_of(log.where)
    if folder is None or not folder.is_dir():
        return []
    episodes = log.episodes(brief=True)
    running = {row.id for row in episodes if row.status == "started"}
    known = {
        artifacts.locate(log.where, artifact.path).resolve()
        for row in episodes
        for artifact in log.artifacts(row.id)
    }
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and path.resolve() not in known
        and path.relative_to(folder).parts[0] not in running
    )


def merge(log: Log, other: LogReader) -> Merged:
    """Copy what another log has and this one has not: runs, episodes, their files. Ids are kept.

    Either all of it is in afterwards or nothing. An episode that both have is left as it is here;
    one that is still being played stays out.

    Raises:
        LogError: either log cannot be read or written, or a file of the other's is missing.
    """
    mine = {row.id for row in log.episodes(brief=True)}
    theirs = other.episodes(brief=True)
    new = [row for row in theirs if row.id not in mine and row.status != "started"]
    wanted = sorted({row.run_id for row in new} - {run.id for run in log.runs()})
    copied: list[Path] = []
    try:
        with (
            explained(log.where),
            transaction(log.engine) as target,
            other.engine.connect() as source,
        ):
            _copy(source, target, Run.table(), Run.table().c.id.in_(wanted))
            for row in new:
                _copy_episode(source, target, row.id)
                _copy_files(other, log, target, id=row.id, copied=copied)
            _copy_own_events(source, target)
    except BaseException:
        for path in copied:
            path.unlink(missing_ok=True)
        raise
    return Merged(
        runs=len(wanted),
        episodes=len(new),
        duplicates=sum(row.id in mine for row in theirs),
        unfinished=sum(row.id not in mine and row.status == "started" for row in theirs),
        files=len(copied),
    )


def _copy_episode(source: Connection, target: Connection, id: str) -> None:
    _copy(source, target, Episode.table(), Episode.table().c.id == id)
    for kind in CHILDREN:
        _copy(source, target, kind.table(), kind.table().c.episode_id == id)


def _copy(source: Connection, target: Connection, table: Table, which: Any) -> None:
    """Copy rows; those that are only numbered get the numbers that come next."""
    numbered = table.name in ("inference", "event", "artifact")
    rows = source.execute(select(table).where(which).order_by(*table.primary_key)).mappings()
    values = [{k: v for k, v in row.items() if not (numbered and k == "id")} for row in rows]
    if values:
        target.execute(insert(table), values)


def _copy_own_events(source: Connection, target: Connection) -> None:
    """Copy the events that belong to no episode, each once."""
    event = Event.table()
    own = select(event).where(event.c.episode_id.is_(None)).order_by(event.c.id)

    def key(row: Any) -> tuple[Any, ...]:
        return row["time"], row["kind"], row["message"]

    known = {key(row) for row in target.execute(own).mappings()}
    for row in source.execute(own).mappings():
        if key(row) not in known:
            target.execute(insert(event), {k: v for k, v in row.items() if k != "id"})


def _copy_files(
    other: LogReader, log: LogReader, target: Connection, *, id: str, copied: list[Path]
) -> None:
    """Copy an episode's files to the same place beside the other log, and write down where.

    A file that lies elsewhere stays there, and its row keeps the path in full.
    """
    theirs, ours = artifacts.folder_of(other.where), artifacts.folder_of(log.where)
    table = Artifact.table()
    for artifact in other.artifacts(id):
        origin = artifacts.locate(other.where, artifact.path)
        goal = origin.absolute()
        if theirs is not None and ours is not None and origin.is_relative_to(theirs):
            goal = ours / origin.relative_to(theirs)
            copied.append(goal)
            try:
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(origin, goal)
            except OSError as error:
                raise LogError(f"cannot copy {origin} of episode {id}: {error.strerror}") from error
        mine = (table.c.episode_id == id) & (table.c.path == artifact.path)
        target.execute(
            update(table).where(mine).values(path=artifacts.stored_path(log.where, goal))
        )


def superseded(log: LogReader) -> list[EpisodeRow]:
    """List the ended plays of plans that a newer success has: retries, and what was redone."""
    settled: dict[str, str] = {}
    found = []
    for row in log.episodes(brief=True):  # the newest first
        if row.kind != "play" or row.status == "started":
            continue
        if row.plan_hash in settled:
            found.append(row)
        elif row.status == "success":
            settled[row.plan_hash] = row.id
    return found


def prune(log: Log, ids: Iterable[str]) -> Pruned:
    """Remove episodes with all that belongs to them, and runs that have none left by that.

    Raises:
        LogError: one of them is still being played, or the log cannot be written.
    """
    rows = [log.episode(id) for id in ids]
    if playing := [row.id for row in rows if row.status == "started"]:
        raise LogError(f"episode {playing[0]} is still being played; prune it when it has ended")
    files = [
        artifacts.locate(log.where, artifact.path)
        for row in rows
        for artifact in log.artifacts(row.id)
    ]
    runs = 0
    episode, run = Episode.table(), Run.table()
    with explained(log.where), transaction(log.engine) as connection:
        for row in rows:
            for kind in CHILDREN:
                table = kind.table()
                connection.execute(delete(table).where(table.c.episode_id == row.id))
            connection.execute(delete(episode).where(episode.c.id == row.id))
        for id in dict.fromkeys(row.run_id for row in rows):
            empty = ~exists().where(episode.c.run_id == run.c.id)
            runs += connection.execute(delete(run).where(run.c.id == id, empty)).rowcount
    count, size = remove_files(log, files)
    if rows:
        log.event("pruned", f"removed {len(rows)} episodes and {runs} runs")
    return Pruned(len(rows), runs, count, size)


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
