"""Defines the tables of the log, as SQLAlchemy models.

run ─< episode ─< round, checkpoint, inference, event, account, artifact

What users may sort or plot by is a column; what only explains (plans, parameters, histograms)
is JSON. A change here, or of `OutcomeRow`, needs a migration in `migrations/versions` and a new
`schema_version.HEAD`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from arena.log.rows import JsonMap, OutcomeRow


class UtcDateTime(TypeDecorator[datetime]):
    """Keep moments in UTC: SQLite forgets time zones, so they are set again on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Turn to UTC. Raises ValueError for a moment without a time zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError(f"expected a moment with a time zone, got {value!r}")
        return value if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Histograms(TypeDecorator[tuple[tuple[int, ...], ...]]):
    """Keep counts per exit, for each defence, as JSON lists; they come back as tuples."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_result_value(
        self, value: list[list[int]] | None, dialect: Dialect
    ) -> tuple[tuple[int, ...], ...] | None:
        """Give tuples. Raises TypeError for what are no lists of counts."""
        if value is None:
            return None
        if not all(type(counts) is list and set(map(type, counts)) <= {int} for counts in value):
            raise TypeError(f"expected lists of counts, got {value!r}")
        return tuple(map(tuple, value))


class Names(TypeDecorator[tuple[tuple[str, ...], ...]]):
    """Keep lists of names as JSON; they come back as the tuples they were."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def process_result_value(
        self, value: list[list[str]] | None, dialect: Dialect
    ) -> tuple[tuple[str, ...], ...] | None:
        """Give tuples. Raises TypeError for what are no lists of names."""
        if value is None:
            return None
        if not all(type(names) is list and set(map(type, names)) <= {str} for names in value):
            raise TypeError(f"expected lists of names, got {value!r}")
        return tuple(map(tuple, value))


Key = Annotated[
    int,
    # SQLite numbers rows by itself only for a column that is INTEGER to the letter.
    mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
]
Name = Annotated[str, mapped_column(String(255))]
Prose = Annotated[str, mapped_column(Text)]
Count = Annotated[int, mapped_column(BigInteger)]
OptionalName = Annotated[str | None, mapped_column(String(255))]
OptionalProse = Annotated[str | None, mapped_column(Text)]
OptionalCount = Annotated[int | None, mapped_column(BigInteger)]
OptionalJson = Annotated[object | None, mapped_column(JSON(none_as_null=True))]
Time = Annotated[datetime, mapped_column(UtcDateTime)]
OptionalTime = Annotated[datetime | None, mapped_column(UtcDateTime)]
Exits = Annotated[tuple[tuple[int, ...], ...] | None, mapped_column(Histograms)]
ExitNames = Annotated[tuple[tuple[str, ...], ...] | None, mapped_column(Names)]
# Measurements may be missing, and SQLite stores NaN as NULL.
Measure = Annotated[float | None, mapped_column(Double)]
OfEpisode = Annotated[
    str, mapped_column(String(12), ForeignKey("episode.id", ondelete="CASCADE"), index=True)
]
# The same as a leading part of the primary key, which is its index.
PartOfEpisode = Annotated[
    str,
    mapped_column(String(12), ForeignKey("episode.id", ondelete="CASCADE"), primary_key=True),
]


class Base(DeclarativeBase):
    """Hold the metadata; constraints are named, so that a migration can drop them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_N_label)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )

    @classmethod
    def table(cls) -> Table:
        """Give the table itself, for statements without the object layer."""
        table = cls.__table__
        assert isinstance(table, Table)
        return table


class Run(Base):
    """One call of the program."""

    __tablename__ = "run"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    created: Mapped[Time] = mapped_column(index=True)
    command: Mapped[Prose]
    scenario_name: Mapped[Name]
    scenario_text: Mapped[Prose]
    versions: Mapped[OptionalJson]
    git_commit: Mapped[OptionalName]
    git_dirty: Mapped[bool | None]
    host: Mapped[Name]
    device: Mapped[OptionalName]
    python: Mapped[Name]


_ADDED = ("accounts_used", "attack_price", "clone_metrics")
"""Fields of `OutcomeRow` that later schemas brought: their columns stand last."""


def _outcome_columns(*, added: bool) -> Iterator[Column[Any]]:  # Any: each has its own type
    """Make a column for each field of `OutcomeRow`, in their order; the added ones apart."""
    types: Mapping[object, TypeEngine[Any]] = {
        int: BigInteger(), float: Double(), str: String(255), JsonMap: JSON(none_as_null=True),
    }  # fmt: skip
    for field in fields(OutcomeRow):
        kind, _ = get_args(field.type)  # each is optional
        if (field.name in _ADDED) == added:
            yield Column(field.name, types[kind])


class Episode(Base):
    """One episode: its plan, its fate and its outcome, whose columns are those of `OutcomeRow`."""

    __tablename__ = "episode"
    __table_args__ = (
        *_outcome_columns(added=False),
        # Late, because it is long: SQLite reads a row only as far as the columns asked for.
        Column("plan", JSON(none_as_null=True)),
        Column("content_digest", String(255)),
        *_outcome_columns(added=True),
        Index("ix_episode_plan_hash_status", "plan_hash", "status"),
        Index("ix_episode_status_host", "status", "host"),
        Index("ix_episode_attacker_defender", "attacker", "defender"),
    )

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("run.id", ondelete="CASCADE"), index=True)
    scenario_name: Mapped[Name] = mapped_column(index=True)
    kind: Mapped[Name]
    seed: Mapped[Count]
    attacker: Mapped[Name]
    defender: Mapped[Name]
    victim: Mapped[Name]
    clone: Mapped[Name]
    data: Mapped[Name]
    budget: Mapped[Count]
    num_classes: Mapped[OptionalCount]
    exit_names: Mapped[ExitNames]
    clone_normalisation: Mapped[OptionalName]
    test_overlap: Mapped[OptionalCount]

    status: Mapped[Name]
    error: Mapped[OptionalProse]
    started: Mapped[Time] = mapped_column(index=True)
    finished: Mapped[OptionalTime]
    wall_seconds: Mapped[Measure]

    pid: Mapped[Count]
    host: Mapped[Name]
    process_started: Mapped[Name]
    heartbeat: Mapped[Time]
    device: Mapped[OptionalName]
    git_commit: Mapped[OptionalName]
    versions: Mapped[OptionalJson]
    plan_hash: Mapped[Name]
    attacker_params: Mapped[OptionalJson]
    defender_params: Mapped[OptionalJson]


class Round(Base):
    """A bounded bucket of rounds, summed up."""

    __tablename__ = "round"

    episode_id: Mapped[PartOfEpisode]
    bucket: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    first_round: Mapped[Count]
    rounds: Mapped[Count]
    attack_answered: Mapped[Count]
    benign_answered: Mapped[Count]
    queries_used: Mapped[Count]
    attack_exits: Mapped[Exits]
    benign_exits: Mapped[Exits]
    attack_macs: Mapped[OptionalCount]
    benign_macs: Mapped[OptionalCount]
    attack_seconds: Mapped[Measure]
    benign_seconds: Mapped[Measure]
    benign_correct: Mapped[Count]
    query_digest: Mapped[OptionalName]
    answer_digest: Mapped[OptionalName]
    countermeasure: Mapped[OptionalJson]


class Checkpoint(Base):
    """One measurement along the budget."""

    __tablename__ = "checkpoint"

    episode_id: Mapped[PartOfEpisode]
    index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    queries_used: Mapped[Count]
    clone_accuracy: Mapped[Measure]
    clone_fidelity: Mapped[Measure]
    wall_seconds: Mapped[Measure]
    metrics: Mapped[OptionalJson]


class Inference(Base):
    """One thing the attacker says about the victim."""

    __tablename__ = "inference"

    id: Mapped[Key]
    episode_id: Mapped[OfEpisode]
    attribute: Mapped[Name]
    inferred: Mapped[OptionalJson]
    truth: Mapped[OptionalJson]
    correct: Mapped[bool | None]
    confidence: Mapped[Measure]


class Event(Base):
    """One thing that happened, in an episode or to the log as a whole."""

    __tablename__ = "event"

    id: Mapped[Key]
    episode_id: Mapped[str | None] = mapped_column(
        String(12), ForeignKey("episode.id", ondelete="CASCADE"), index=True
    )
    time: Mapped[Time]
    queries_used: Mapped[OptionalCount]
    kind: Mapped[Name]
    message: Mapped[Prose]
    data: Mapped[OptionalJson]


class Account(Base):
    """What one account of the attacker was charged."""

    __tablename__ = "account"

    episode_id: Mapped[PartOfEpisode]
    account: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    client: Mapped[Count]
    queries_used: Mapped[Count]


class Artifact(Base):
    """A file that belongs to an episode."""

    __tablename__ = "artifact"

    id: Mapped[Key]
    episode_id: Mapped[OfEpisode]
    kind: Mapped[Name]
    path: Mapped[Prose]
    sha256: Mapped[str] = mapped_column(String(64))
    bytes: Mapped[Count]
    meta: Mapped[OptionalJson]


CHILDREN = (Round, Checkpoint, Inference, Event, Account, Artifact)
"""What belongs to an episode: it is copied with it and goes with it."""
