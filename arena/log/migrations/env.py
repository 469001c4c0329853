"""Run the migrations; Alembic executes this file whenever it is asked to do something.

The caller hands over a connection whose transaction is open: either all steps happen or none.
"""

from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import TypeDecorator

from arena.log.schema_version import VERSION_TABLE
from arena.log.tables import METADATA


def _render(kind: str, item: object, autogen: AutogenContext) -> str | Literal[False]:
    """Write our own types as what they are in the database: a migration outlives our classes."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    transactional_ddl=True,  # true of SQLite too, since we begin the transactions ourselves
    render_item=_render,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
