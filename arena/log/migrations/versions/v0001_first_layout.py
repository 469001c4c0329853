"""The first released layout: run, episode, round, checkpoint, inference, event, artifact."""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision: str | None = None


def upgrade() -> None:
    """Apply it."""
    op.create_table(
        "run",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("scenario_name", sa.String(length=255), nullable=False),
        sa.Column("scenario_text", sa.Text(), nullable=False),
        sa.Column("versions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("git_commit", sa.String(length=255), nullable=True),
        sa.Column("git_dirty", sa.Boolean(), nullable=True),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=True),
        sa.Column("python", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
    )
    op.create_index(op.f("ix_run_created"), "run", ["created"])

    op.create_table(
        "episode",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("run_id", sa.String(length=12), nullable=False),
        sa.Column("scenario_name", sa.String(length=255), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("attacker", sa.String(length=255), nullable=False),
        sa.Column("defender", sa.String(length=255), nullable=False),
        sa.Column("victim", sa.String(length=255), nullable=False),
        sa.Column("clone", sa.String(length=255), nullable=False),
        sa.Column("data", sa.String(length=255), nullable=False),
        sa.Column("budget", sa.BigInteger(), nullable=False),
        sa.Column("num_classes", sa.BigInteger(), nullable=True),
        sa.Column("exit_names", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("clone_normalisation", sa.String(length=255), nullable=True),
        sa.Column("test_overlap", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=255), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=True),
        sa.Column("wall_seconds", sa.Double(), nullable=True),
        sa.Column("pid", sa.BigInteger(), nullable=False),
        sa.Column("host", sa.String(length=255), nullable=False),
        sa.Column("process_started", sa.String(length=255), nullable=False),
        sa.Column("heartbeat", sa.DateTime(timezone=True), nullable=False),
        sa.Column("device", sa.String(length=255), nullable=True),
        sa.Column("git_commit", sa.String(length=255), nullable=True),
        sa.Column("versions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("plan_hash", sa.String(length=255), nullable=False),
        sa.Column("attacker_params", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("defender_params", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("queries_used", sa.BigInteger(), nullable=True),
        sa.Column("attack_answered", sa.BigInteger(), nullable=True),
        sa.Column("benign_answered", sa.BigInteger(), nullable=True),
        sa.Column("clone_accuracy", sa.Double(), nullable=True),
        sa.Column("clone_fidelity", sa.Double(), nullable=True),
        sa.Column("victim_accuracy", sa.Double(), nullable=True),
        sa.Column("served_accuracy", sa.Double(), nullable=True),
        sa.Column("served_agreement", sa.Double(), nullable=True),
        sa.Column("distortion_mean", sa.Double(), nullable=True),
        sa.Column("distortion_p95", sa.Double(), nullable=True),
        sa.Column("attack_compute_share", sa.Double(), nullable=True),
        sa.Column("benign_compute_share", sa.Double(), nullable=True),
        sa.Column("attack_macs_mean", sa.Double(), nullable=True),
        sa.Column("benign_macs_mean", sa.Double(), nullable=True),
        sa.Column("full_macs", sa.BigInteger(), nullable=True),
        sa.Column("attack_seconds_mean", sa.Double(), nullable=True),
        sa.Column("benign_seconds_mean", sa.Double(), nullable=True),
        sa.Column("harden_seconds", sa.Double(), nullable=True),
        sa.Column("query_digest", sa.String(length=255), nullable=True),
        sa.Column("answer_digest", sa.String(length=255), nullable=True),
        sa.Column("plan", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["run_id"], ["run.id"], name=op.f("fk_episode_run_id_run"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_episode")),
    )
    op.create_index("ix_episode_attacker_defender", "episode", ["attacker", "defender"])
    op.create_index("ix_episode_plan_hash_status", "episode", ["plan_hash", "status"])
    op.create_index(op.f("ix_episode_run_id"), "episode", ["run_id"])
    op.create_index(op.f("ix_episode_scenario_name"), "episode", ["scenario_name"])
    op.create_index(op.f("ix_episode_started"), "episode", ["started"])
    op.create_index("ix_episode_status_host", "episode", ["status", "host"])

    op.create_table(
        "artifact",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("episode_id", sa.String(length=12), nullable=False),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("meta", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["episode_id"],
            ["episode.id"],
            name=op.f("fk_artifact_episode_id_episode"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_artifact")),
    )
    op.create_index(op.f("ix_artifact_episode_id"), "artifact", ["episode_id"])

    op.create_table(
        "checkpoint",
        sa.Column("episode_id", sa.String(length=12), nullable=False),
        sa.Column("index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("queries_used", sa.BigInteger(), nullable=False),
        sa.Column("clone_accuracy", sa.Double(), nullable=True),
        sa.Column("clone_fidelity", sa.Double(), nullable=True),
        sa.Column("wall_seconds", sa.Double(), nullable=True),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["episode_id"],
            ["episode.id"],
            name=op.f("fk_checkpoint_episode_id_episode"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("episode_id", "index", name=op.f("pk_checkpoint")),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("episode_id", sa.String(length=12), nullable=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("queries_used", sa.BigInteger(), nullable=True),
        sa.Column("kind", sa.String(length=255), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["episode_id"],
            ["episode.id"],
            name=op.f("fk_event_episode_id_episode"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_episode_id"), "event", ["episode_id"])

    op.create_table(
        "inference",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("episode_id", sa.String(length=12), nullable=False),
        sa.Column("attribute", sa.String(length=255), nullable=False),
        sa.Column("inferred", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("truth", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("correct", sa.Boolean(), nullable=True),
        sa.Column("confidence", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["episode_id"],
            ["episode.id"],
            name=op.f("fk_inference_episode_id_episode"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inference")),
    )
    op.create_index(op.f("ix_inference_episode_id"), "inference", ["episode_id"])

    op.create_table(
        "round",
        sa.Column("episode_id", sa.String(length=12), nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("first_round", sa.BigInteger(), nullable=False),
        sa.Column("rounds", sa.BigInteger(), nullable=False),
        sa.Column("attack_answered", sa.BigInteger(), nullable=False),
        sa.Column("benign_answered", sa.BigInteger(), nullable=False),
        sa.Column("queries_used", sa.BigInteger(), nullable=False),
        sa.Column("attack_exits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("benign_exits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("attack_macs", sa.BigInteger(), nullable=False),
        sa.Column("benign_macs", sa.BigInteger(), nullable=False),
        sa.Column("attack_seconds", sa.Double(), nullable=True),
        sa.Column("benign_seconds", sa.Double(), nullable=True),
        sa.Column("benign_correct", sa.BigInteger(), nullable=False),
        sa.Column("query_digest", sa.String(length=255), nullable=True),
        sa.Column("answer_digest", sa.String(length=255), nullable=True),
        sa.Column("countermeasure", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["episode_id"],
            ["episode.id"],
            name=op.f("fk_round_episode_id_episode"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("episode_id", "bucket", name=op.f("pk_round")),
    )


def downgrade() -> None:
    """Take it back."""
    op.drop_table("round")

    op.drop_table("inference")

    op.drop_table("event")
    op.drop_table("checkpoint")

    op.drop_table("artifact")

    op.drop_table("episode")

    op.drop_table("run")
