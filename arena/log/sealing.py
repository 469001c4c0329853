"""Writes down what a log holds, so that others can tell later whether it is still that."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import select

from arena.log import artifacts
from arena.log.checking import Problem
from arena.log.content import content_digests, same_content
from arena.log.database_errors import explained
from arena.log.reader import LogReader
from arena.log.tables import EPISODE
from envs.atomic_file import whole_file
from envs.errors import LogError

_TITLE = "fortress-arena seal 1"


def seal(log: LogReader, out: Path) -> int:
    """Write a line for each ended episode, its id and its digest, in the order of the ids.

    Returns:
        the number of episodes.

    Raises:
        LogError: the log cannot be read, or the file cannot be written.
    """
    digests = dict(_digests(log))
    lines = [_TITLE, *(f"{id} {digest}" for id, digest in digests.items())]
    try:
        with whole_file(out) as part:
            part.write_text("\n".join(lines) + "\n", encoding="ascii")
    except OSError as error:
        raise LogError(f"cannot write the seal to {out}: {error.strerror}") from error
    return len(digests)


def broken_seals(log: LogReader, path: Path) -> list[Problem]:
    """Find the episodes that are no longer what a seal says.

    Raises:
        LogError: the file cannot be read, or is no seal.
    """
    try:
        title, *lines = path.read_text(encoding="ascii", errors="replace").splitlines() or [""]
    except OSError as error:
        raise LogError(f"cannot read the seal {path}: {error.strerror}") from error
    if title != _TITLE:
        raise LogError(f"{path} is no seal of this version; expected '{_TITLE}' as its first line")
    sealed = {}
    for number, line in enumerate(lines, 2):
        id, _, digest = line.partition(" ")
        if not id or not digest or " " in digest:
            raise LogError(f"{path}: line {number} is none of a seal; expected an id and a digest")
        sealed[id] = digest
    found = dict(_digests(log))
    files = artifacts.folder_of(log.where) is not None
    problems = []
    for id, digest in sealed.items():
        if id not in found:
            problems.append(Problem("fault", "seal", f"episode {id} was sealed and is not there"))
        elif not same_content(digest, found[id], files=files):
            problems.append(
                Problem("fault", "seal", f"episode {id}: it was changed since it was sealed")
            )
    return problems


def _digests(log: LogReader) -> Iterator[tuple[str, str]]:
    column = EPISODE.c
    with explained(log.where), log.engine.connect() as connection:
        ended = select(column.id).where(column.finished.is_not(None)).order_by(column.id)
        yield from content_digests(connection, connection.execute(ended).scalars()).items()
