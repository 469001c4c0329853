"""Removes a log that a command made and then refused to use."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from sqlalchemy import Connection, select

from arena.log.tables import EPISODE, EVENT


class Written(Protocol):
    """A log."""

    def writing(self) -> AbstractContextManager[Connection]:
        """Open a write transaction."""


def remove_unused(log: Written, path: Path) -> None:
    """Remove a log's file if nothing was ever played into it; another process may have done so.

    Raises:
        LogError, OSError: it cannot be looked at or removed.
    """
    with log.writing() as connection:
        for table in (EPISODE, EVENT):
            if connection.execute(select(table.c.id).limit(1)).first() is not None:
                return
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
