"""Add what else a scenario measures of the final clone."""

import sqlalchemy as sa
from alembic import op

revision = "v0006"
down_revision: str | None = "v0005"


def upgrade() -> None:
    """Apply it."""
    op.add_column("episode", sa.Column("clone_metrics", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("episode", "clone_metrics")
