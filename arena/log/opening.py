"""Opens a log: it is checked, migrated, freed of what the dead left behind, and closed again."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine

from arena.log import engine as engines
from arena.log import processes, schema_version
from arena.log.database_errors import ANOTHER, explained
from arena.log.reader import LogReader
from arena.log.unused import remove_unused
from envs.errors import LogError

BUSY_SECONDS = 30.0


class LogConnection(LogReader):
    """A log that is open. Reading is in `LogReader`, and what is written in `arena.log.store`.

    Attributes:
        read_only: writing raises LogError.
    """

    def __init__(self, engine: Engine, where: str, *, read_only: bool) -> None:
        super().__init__(engine, where)
        self.read_only = read_only
        self._path: Path | None = None
        self._file: tuple[int, int] | None = None
        self._folder = _working_folder()
        self._made = False
        self._watch = processes.Watch()

    @classmethod
    def open(
        cls,
        url_or_path: str | Path | None = None,
        *,
        create: bool = True,
        read_only: bool = False,
        busy_seconds: float = BUSY_SECONDS,
    ) -> Self:
        """Open a log, bring its tables up to date, and mark what dead processes left behind.

        Args:
            url_or_path: a file, or any SQLAlchemy URL; that of `default_url` where None.
            create: make the log where there is none. Without it, a log that may not be written is
                opened read-only: whoever only looks needs no more.
            read_only: neither make, migrate, mark nor write anything.
            busy_seconds: how long to wait for another writer (SQLite).

        Raises:
            LogError: it cannot be opened, is no log, or is newer than this program.
        """
        address = engines.resolve(engines.named(url_or_path))
        if address.path is not None:
            read_only = read_only or not (create or engines.may_write(address.path))
            engines.check_file(address.path, address.where, create=create, read_only=read_only)
        made = address.path is not None and not address.path.exists()
        engine = engines.connect(address, read_only=read_only, busy_seconds=busy_seconds)
        log = cls(engine, address.where, read_only=read_only)
        log._made = made
        try:
            log._prepare(address.path, create=create, busy_seconds=busy_seconds)
        except BaseException:
            log.close()
            raise
        return log

    def _prepare(self, path: Path | None, *, create: bool, busy_seconds: float) -> None:
        """Check, migrate and tidy up."""
        with explained(self.where):
            if not create and not self._holds_a_log():
                raise LogError(f"{self.where} holds no arena log; {ANOTHER.removeprefix('or ')}")
            if self.engine.dialect.name == "sqlite" and not self.read_only:
                engines.use_wal(self.engine, busy_seconds)
            schema_version.prepare(self.engine, self.where, read_only=self.read_only)
            if path is not None:
                self._path, self._file = path, engines.identity(path)
        if not self.read_only:
            self.mark_dead()

    def _holds_a_log(self) -> bool:
        with self.engine.connect() as connection:
            return schema_version.version(connection) is not None

    def mark_dead(self) -> None:
        """Mark the episodes of dead writers; take the write lock only when there are any.

        One of another machine counts as dead once it was watched; see `processes.Watch`.

        Raises:
            LogError: it cannot be written.
        """
        with self._reading() as connection:
            dead = processes.find_dead(connection, watch=self._watch)
        if dead:
            with self.writing() as connection:
                processes.mark_dead(connection, self._watch)

    def close(self) -> None:
        """Close all connections. What a writer has not flushed is lost."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self._made and self._path is not None:
            with suppress(LogError, OSError):
                remove_unused(self, self._path)
        self.close()

    def require_writable(self) -> None:
        """Refuse to go on where the log is open read-only.

        Raises:
            LogError: it is.
        """
        if self.read_only:
            why = engines.why_read_only(self._path)
            raise LogError(f"log {self.where} is open read-only; nothing was written{why}")

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Open one write transaction: committed at the end, undone by an exception.

        Raises:
            LogError: the log cannot be written, or is not where it was.
        """
        self.require_writable()
        with explained(self.where), engines.transaction(self.engine) as connection:
            self._require_same_file()
            yield connection
            self._require_same_file()

    def _require_same_file(self) -> None:
        """Check that the log lies where it was opened: else rows would go into a file without name.

        Raises:
            LogError: it was removed, or another file lies there.
        """
        if self._path is None or engines.identity(self._path) == self._file:
            return
        if not self._path.is_absolute() and (folder := _working_folder()) != self._folder:
            raise LogError(f"log {self.where}: the working folder was {self._folder} when it was "
                           f"opened and is {folder} now, which a player may have changed; name "
                           f"the log by its whole path")  # fmt: skip
        fate = "another file took its place" if self._path.exists() else "it was removed"
        raise LogError(f"log {self.where}: {fate} while it was open; nothing more can be written, "
                       f"and what was played into it is lost unless you put it back")  # fmt: skip


def _working_folder() -> Path | None:
    """Return the folder that relative paths start from; None where it was removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
