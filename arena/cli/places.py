"""Refuses places that cannot be written, before a command begins what takes long."""

import os
from pathlib import Path

from envs.atomic_file import refuse_database
from envs.errors import ArenaError


def require_log(log: str | None) -> None:
    """Refuse a log that could be neither made nor written.

    Raises:
        LogError: says why, and what to do.
    """
    from arena.log.engine import require_place

    require_place(log)


def require_folder(path: Path | None) -> None:
    """Refuse a folder that is no folder, or that could not be made or written.

    Raises:
        ArenaError: says why.
    """
    if path is None:
        return
    try:
        there = next(one for one in (path, *path.absolute().parents) if one.exists())
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ArenaError(f"cannot write into {str(path)[:80]}: {why}") from error
    if not there.is_dir():
        raise ArenaError(f"cannot write into {path}: {there} is a file; name a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ArenaError(f"cannot write into {path}: {there} may not be written")


def require_file(path: Path | None) -> None:
    """Refuse a file that could not be written; its folder may be missing, where it is made.

    Raises:
        ArenaError: says why.
    """
    if path is None:
        return
    require_folder(path.parent)
    if path.is_dir():
        raise ArenaError(f"cannot write {path}: it is a folder; name a file")
    try:
        refuse_database(path)
    except OSError as error:
        raise ArenaError(f"cannot write {path}: {error.strerror}") from error
