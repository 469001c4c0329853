"""Say in one line what a database means when it fails, and what to do next."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError

from envs.errors import LogError, one_line

ANOTHER = "or use another --log"

# By the beginning of SQLite's own name of the error; the first that fits counts.
_SQLITE = {
    "SQLITE_FULL": f"the disk (or its quota) is full; make room and write again, {ANOTHER}",
    "SQLITE_BUSY": "another process has held its lock for too long; wait for it or end it, "
    f"{ANOTHER}",
    "SQLITE_LOCKED": "another connection of this process holds its lock; close that one first",
    "SQLITE_NOTADB": "the file is not an SQLite database; move it away, " + ANOTHER,
    "SQLITE_CORRUPT": "the database is damaged; save what `sqlite3 FILE .recover` can read, "
    + ANOTHER,
    "SQLITE_READONLY": f"it may not be written here; open it read-only, {ANOTHER}",
    "SQLITE_CANTOPEN": "the file cannot be opened; check that its folder exists and may be "
    f"written, {ANOTHER}",
    "SQLITE_IOERR": f"the disk failed to read or write; check it, {ANOTHER}",
}


def _first_line(error: BaseException) -> str:
    """Give the first line of a message, without SQLAlchemy's statement and links."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def explain(error: SQLAlchemyError, where: str) -> LogError:
    """Turn a database's failure into one clear line.

    Args:
        error: what SQLAlchemy raised.
        where: the log as the user named it, without passwords.
    """
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorname", "")
    for prefix, advice in _SQLITE.items():
        if code.startswith(prefix):
            return LogError(f"log {where}: {advice}")
    if isinstance(error, IntegrityError):
        return LogError(f"log {where} refused a row: {_first_line(cause)}")
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return LogError(f"log {where}: the connection was lost ({_first_line(cause)}); try again")
    return LogError(f"log {where}: {_first_line(cause)}")


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Raise LogError for whatever the database raises inside.

    Raises:
        LogError: one line, with the database's own error as its cause.
    """
    try:
        yield
    except SQLAlchemyError as error:
        raise explain(error, where) from error
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # of JSON and dates as they are read out of a row; a program that writes gives plain values
        raise LogError(
            f"log {where} holds or was given a value that is none of its column's "
            f"({one_line(error)[:80]}); 'arena log check' names damaged ones"
        ) from error
