"""Add what each account of the attacker was charged, and the price of the attack."""

import sqlalchemy as sa
from alembic import op

revision = "v0005"
down_revision: str | None = "v0004"


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "account",
        sa.Column("episode_id", sa.String(length=12), nullable=False),
        sa.Column("account", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("client", sa.BigInteger(), nullable=False),
        sa.Column("queries_used", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["episode_id"],
            ["episode.id"],
            name=op.f("fk_account_episode_id_episode"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("episode_id", "account", name=op.f("pk_account")),
    )
    op.add_column("episode", sa.Column("accounts_used", sa.BigInteger(), nullable=True))
    op.add_column("episode", sa.Column("attack_price", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take it back."""
    op.drop_column("episode", "attack_price")
    op.drop_column("episode", "accounts_used")
    op.drop_table("account")
