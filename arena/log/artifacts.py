"""Where the files of a log lie: in LOG.artifacts/EPISODE/, beside the log.

Paths in the log are relative to the log's folder, so that log and files can be moved together.
"""

import hashlib
from pathlib import Path

from arena.log.engine import resolve
from arena.log.rows import ArtifactRow, JsonMap

SUFFIX = ".artifacts"


def folder_of(where: str) -> Path | None:
    """Return the folder for a log's files; None for a log that is no file."""
    path = resolve(where).path
    return None if path is None else path.with_name(path.name + SUFFIX)


def locate(where: str, path: str) -> Path:
    """Turn the path of an artifact into one that can be opened."""
    log = resolve(where).path
    return Path(path) if log is None else log.parent / path


def stored_path(where: str, file: Path) -> str:
    """Write a path as the log keeps it: relative to the log's folder where it lies below that."""
    log = resolve(where).path
    inside = log is not None and file.is_relative_to(log.parent)
    return (file.relative_to(log.parent) if log and inside else file).as_posix()


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
