"""Add a digest of all rows of an episode to its own row; older episodes have none."""

import sqlalchemy as sa
from alembic import op

revision = "v0003"
down_revision: str | None = "v0002"


def upgrade() -> None:
    """Apply it."""
    op.add_column("episode", sa.Column("content_digest", sa.String(length=255), nullable=True))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("episode", "content_digest")
