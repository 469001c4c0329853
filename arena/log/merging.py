"""Copies whole episodes from one log into another, with their rows, events and files."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from arena.log import artifacts
from arena.log.batches import batches
from arena.log.collector import rare_collections
from arena.log.content import content_digests, same_content
from arena.log.continued import continues
from arena.log.pruning import remove_rows
from arena.log.reader import LogReader
from arena.log.rows import ArtifactRow
from arena.log.store import Log
from arena.log.tables import ARTIFACT, CHILDREN, EPISODE, EVENT, RUN
from envs.errors import LogError

# `Any` in this file: rows as the database gives them, each column with its own type.


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge did, in counts; `left_out` are the ids of episodes that have not ended.

    `continued` are those of `episodes` that were here, broken off, and were played on there.
    """

    runs: int
    episodes: int
    continued: int
    duplicates: int
    files: int
    left_out: tuple[str, ...]


@rare_collections()
def merge(log: Log, other: LogReader) -> Merged:
    """Copy what another log has and this one has not: runs, episodes, their files. Ids are kept.

    Either all of it is in afterwards or nothing. An episode that both have is left as it is here,
    unless it was broken off here and the other log has what became of it; one that is still being
    played stays out.

    Raises:
        LogError: either log cannot be read or written; they say different things of one episode;
            a file of the other's is missing, has a path that leads elsewhere, or would take the
            place of another file.
    """
    mine = {row.id: row.status for row in log.episodes(brief=True)}
    theirs = other.episodes(brief=True)
    ended = [row for row in theirs if row.status != "started"]
    both = sorted(row.id for row in ended if mine.get(row.id, "started") != "started")
    continued = _continued(log, other, both)
    new = [row for row in ended if row.id not in mine or row.id in continued]
    wanted = sorted({row.run_id for row in new} - {run.id for run in log.runs()})
    if odd := [row.id for row in new if not artifacts.is_plain(row.id)]:
        raise LogError(f"log {other.where}: {odd[0]!r} is no id of an episode; do not trust it")
    copied: list[Path] = []
    try:
        with (
            log.writing() as target,
            other.engine.connect() as source,
        ):
            _copy(source, target, RUN, RUN.c.id.in_(wanted))
            for id in continued:
                remove_rows(target, id)
            for batch in batches(row.id for row in new):
                _copy_episodes(source, target, batch)
                for id, files in other.of_episodes(ArtifactRow, batch).items():
                    _copy_files(other, log, target, id=id, files=files, copied=copied)
            _copy_own_events(source, target)
    except BaseException:
        for path in copied:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # other files lie there
                path.parent.rmdir()
        raise
    return Merged(
        runs=len(wanted),
        episodes=len(new),
        continued=len(continued),
        duplicates=sum(row.id in mine for row in theirs) - len(continued),
        files=len(copied),
        left_out=tuple(row.id for row in theirs if row.id not in mine and row.status == "started"),
    )


def _continued(log: Log, other: LogReader, ids: Sequence[str]) -> list[str]:
    """List the ended episodes of both logs that were broken off here and played on there.

    Raises:
        LogError: names the first with other rows of which neither goes on with the other.
    """
    found = []
    with log.engine.connect() as ours, other.engine.connect() as theirs:
        here, there = (content_digests(each, ids) for each in (ours, theirs))
        for id in ids:
            if same_content(here[id], there[id], files=False):
                continue
            if continues(theirs, ours, id):
                found.append(id)
            elif not continues(ours, theirs, id):
                raise LogError(
                    f"episode {id} is in {log.where} and in {other.where} with different rows, so "
                    f"that nothing was merged; 'arena log check' tells which of the two was "
                    f"changed, and 'arena log prune {id}' removes it"
                )
    return found


def _copy_episodes(source: Connection, target: Connection, ids: Sequence[str]) -> None:
    _copy(source, target, EPISODE, EPISODE.c.id.in_(ids))
    for kind in CHILDREN:
        _copy(source, target, kind, kind.c.episode_id.in_(ids))


def _copy(source: Connection, target: Connection, table: Table, which: Any) -> None:
    """Copy rows; those that are only numbered get the numbers that come next."""
    numbered = table.name in ("inference", "event", "artifact")
    rows = source.execute(select(table).where(which).order_by(*table.primary_key)).mappings()
    values = [{k: v for k, v in row.items() if not (numbered and k == "id")} for row in rows]
    if values:
        target.execute(insert(table), values)


def _copy_own_events(source: Connection, target: Connection) -> None:
    """Copy the events that belong to no episode, each once."""
    own = select(EVENT).where(EVENT.c.episode_id.is_(None)).order_by(EVENT.c.id)

    def key(row: Any) -> tuple[Any, ...]:
        return row["time"], row["kind"], row["message"]

    known = {key(row) for row in target.execute(own).mappings()}
    for row in source.execute(own).mappings():
        if key(row) not in known:
            target.execute(insert(EVENT), {k: v for k, v in row.items() if k != "id"})


def _copy_files(
    other: LogReader,
    log: LogReader,
    target: Connection,
    *,
    id: str,
    files: Sequence[ArtifactRow],
    copied: list[Path],
) -> None:
    """Copy an episode's files to the same place beside the other log, and write down where.

    A log that is no file keeps no files: what is copied into it loses the rows about them.
    """
    ours, table = artifacts.folder_of(log.where), ARTIFACT
    for artifact in files:
        mine = (table.c.episode_id == id) & (table.c.path == artifact.path)
        if ours is None:
            target.execute(delete(table).where(mine))
            _without_files(target, id)
            continue
        origin = artifacts.locate(other.where, id, artifact.path)
        # below the episode's folder in both logs; links on the way are followed by `locate` alone
        below = Path(*Path(artifact.path).parts[1:])
        goal = artifacts.locate(log.where, id, artifacts.stored_path(log.where, ours / below))
        _copy_file(origin, goal, artifact=artifact, id=id, copied=copied)
        target.execute(
            update(table).where(mine).values(path=artifacts.stored_path(log.where, goal))
        )


def _without_files(target: Connection, id: str) -> None:
    """Say in the digest of an episode that no file is kept."""
    column = EPISODE.c
    kept = target.execute(select(column.content_digest).where(column.id == id)).scalar()
    if kept is not None:
        digest = f"{kept.partition('-')[0]}-"
        target.execute(update(EPISODE).where(column.id == id).values(content_digest=digest))


def _copy_file(
    origin: Path, goal: Path, *, artifact: ArtifactRow, id: str, copied: list[Path]
) -> None:
    """Copy a file where there is none; one that is there stays, and has to be the same."""
    try:
        if goal.is_file() and artifacts.digest(goal) == artifact.sha256:
            return
        goal.parent.mkdir(parents=True, exist_ok=True)
        if origin.exists() and not origin.is_file():  # a pipe would never end
            raise LogError(f"cannot copy {origin} of episode {id}: it is no file")
        with origin.open("rb") as source, goal.open("xb") as file:
            copied.append(goal)
            shutil.copyfileobj(source, file)
    except FileExistsError as error:
        raise LogError(
            f"cannot copy {origin} of episode {id}: {goal} is there and is another file; "
            f"move it away and merge again"
        ) from error
    except OSError as error:
        raise LogError(f"cannot copy {origin} of episode {id}: {error.strerror}") from error
