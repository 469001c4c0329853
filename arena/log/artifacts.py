"""Where the files of a log lie: in LOG.artifacts/EPISODE/, beside the log.

Paths in the log are relative to the log's folder, so that log and files can be moved together. They
begin with the folder for files as it was called when they were written; it may be renamed with the
log. A log may come from elsewhere: every path that is read from one passes through `locate`, which
follows links and refuses what leads out of the episode's folder.
"""

import hashlib
import re
from pathlib import Path

from arena.log.engine import resolve
from arena.log.outcome import JsonMap
from arena.log.rows import ArtifactRow
from envs.errors import LogError

SUFFIX = ".artifacts"


def folder_of(where: str) -> Path | None:
    """Return the folder for a log's files; None for a log that is no file."""
    path = resolve(where).path
    return None if path is None else path.with_name(path.name + SUFFIX)


def is_plain(name: str) -> bool:
    """Whether a name that was read from a log can name a file without leading elsewhere."""
    return re.fullmatch(r"[\w-]{1,64}", name, re.ASCII) is not None


def inside(where: str, episode: str, path: str) -> Path | None:
    """Return where an episode's file lies; None where its path leads out of the episode's folder.

    Args:
        where: the log, as it was named.
        episode: id of the episode, as the log has it.
        path: of the file, as the log has it.
    """
    folder = folder_of(where)
    if folder is None or not is_plain(episode) or not path.isprintable():
        return None
    asked = Path(path)
    if asked.is_absolute() or ".." in asked.parts:
        return None
    if len(asked.parts) > 1 and asked.parts[0].endswith(SUFFIX):
        asked = Path(folder.name, *asked.parts[1:])  # log and folder may have been renamed
    found = folder.parent / asked
    try:
        real, home = found.resolve(), folder.resolve() / episode
    except (OSError, RuntimeError):  # a circle of links, a name that is too long
        return None
    return found if real != home and real.is_relative_to(home) else None


def locate(where: str, episode: str, path: str) -> Path:
    """Return where an episode's file lies; see `inside`.

    Raises:
        LogError: the path leads out of the episode's folder beside the log.
    """
    found = inside(where, episode, path)
    if found is None:
        raise LogError(
            f"log {where}, episode {episode!r}: the file {path!r} does not lie in the episode's "
            f"folder beside the log and is left alone; do not trust this log"
        )
    return found


def stored_path(where: str, file: Path) -> str:
    """Write a path as the log keeps it: relative to the log's folder where it lies below that."""
    log = resolve(where).path
    below = log is not None and file.is_relative_to(log.parent)
    return (file.relative_to(log.parent) if log and below else file).as_posix()


def describe(where: str, file: Path, kind: str, *, meta: JsonMap | None = None) -> ArtifactRow:
    """Make the row of a file that lies in the log's folder for files."""
    return ArtifactRow(
        kind=kind,
        path=stored_path(where, file),
        sha256=digest(file),
        bytes=file.stat().st_size,
        meta=meta or {},
    )


def digest(file: Path) -> str:
    """Compute the SHA-256 of a file, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
