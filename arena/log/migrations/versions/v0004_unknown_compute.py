"""Let the compute of a bucket be unknown, as it is of a victim elsewhere."""

import sqlalchemy as sa
from alembic import op

revision = "v0004"
down_revision: str | None = "v0003"

_COLUMNS = ("attack_macs", "benign_macs")


def upgrade() -> None:
    """Apply it."""
    _set_nullable(True)


def downgrade() -> None:
    """Take it back; what is unknown becomes 0."""
    table = sa.table("round", *(sa.column(name, sa.BigInteger) for name in _COLUMNS))
    for name in _COLUMNS:
        op.execute(sa.update(table).where(table.c[name].is_(None)).values({name: 0}))
    _set_nullable(False)


def _set_nullable(nullable: bool) -> None:
    with op.batch_alter_table("round") as batch:
        for name in _COLUMNS:
            batch.alter_column(name, existing_type=sa.BigInteger(), nullable=nullable)
