"""Brings the tables of a log up to this version's schema, or refuses.

Versions are a v and four digits, and count up. Alembic is imported only when there is something to
do, because opening an up-to-date log has to be fast.
"""

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    inspect,
    text,
)

from arena.log import views
from arena.log.database_errors import ANOTHER
from arena.log.engine import transaction
from arena.log.tables import METADATA
from envs.errors import LogError

HEAD = "v0006"
MIGRATIONS = "arena.log:migrations"
"""As a package resource: works from a wheel, and no path can hold a character that counts."""

# Of our own name, so that a log may share a database with other tools that use Alembic.
VERSION_TABLE = "log_version"
_VERSION = Table(  # as Alembic makes it
    VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name=f"{VERSION_TABLE}_pkc"),
)
# Any number will do, as long as all versions of this program take the same one.
_ADVISORY_LOCK = 0x0A2E_7A10


def version(connection: Connection) -> str | None:
    """Read the schema a database has; None where it holds no log."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar()


def _check(connection: Connection, where: str) -> str | None:
    """Read the version and refuse what this program must not touch.

    Raises:
        LogError: the log is newer than this program or older than its first release, or the
            database is somebody else's.
    """
    found = version(connection)
    if found is not None and not found.startswith("v"):
        raise LogError(
            f"{where} is an arena log of layout {found}, from before the first release; this "
            f"version does not read it: move it away and play its scenarios again, {ANOTHER}"
        )
    if found is not None and found > HEAD:
        raise LogError(
            f"{where} has log schema {found}, newer than this version's {HEAD}; "
            f"upgrade fortress-arena {ANOTHER}"
        )
    unversioned = found is None and connection.dialect.name == "sqlite"
    if unversioned and (tables := inspect(connection).get_table_names()):
        raise LogError(
            f"{where} is an SQLite database, but no arena log (it has table '{tables[0]}'); "
            f"{ANOTHER.removeprefix('or ')}"
        )
    return found


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations inside the transaction of this connection, and make the views anew."""
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", MIGRATIONS)
    views.drop(connection)
    command.upgrade(config, revision)
    views.create(connection)


def create(connection: Connection) -> None:
    """Make the tables and views of this version, as the migrations would, and sooner.

    A table of the same name is an error of the database: it is somebody else's.
    """
    METADATA.create_all(connection, checkfirst=False)
    _VERSION.create(connection)
    connection.execute(_VERSION.insert().values(version_num=HEAD))
    views.create(connection)


def prepare(engine: Engine, where: str, *, read_only: bool) -> None:
    """Make sure that the database has this version's tables.

    Raises:
        LogError: see `_check`; or the tables are missing or old and may not be written.
    """
    with engine.connect() as connection:
        found = _check(connection, where)
    if found == HEAD:
        return
    if read_only:
        state = "holds no log yet" if found is None else f"has the old log schema {found}"
        raise LogError(f"{where} {state}; open it once for writing, {ANOTHER}")
    with transaction(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        # Another process may have done it while we waited for the lock.
        found = _check(connection, where)
        if found is None:
            create(connection)
        elif found != HEAD:
            upgrade(connection)
