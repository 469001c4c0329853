"""Defines the tables of the log, for SQLAlchemy's statements; its object layer is not needed.

run ─< episode ─< round, checkpoint, inference, event, account, artifact

What users may sort or plot by is a column; what only explains (plans, parameters, histograms)
is JSON. A column is a field of a class in `rows.py` or `outcome.py` too. A change needs a
migration in `migrations/versions` and a new `schema_version.HEAD`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, get_args

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
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
from sqlalchemy.types import TypeEngine

from arena.log.outcome import JsonMap, OutcomeRow


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


# `Any` in this file: each column has its own type.

METADATA = MetaData(
    # constraints are named, so that a migration can drop them
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_NAME = String(255)
_COUNT = BigInteger()
_PROSE = Text()
_JSON = JSON(none_as_null=True)
_TIME = UtcDateTime()
_EXITS = Histograms()
# Measurements may be missing, and SQLite stores NaN as NULL.
_MEASURE: Double[float] = Double()


def _given(name: str, kind: TypeEngine[Any], *, index: bool = False) -> Column[Any]:
    """Make a column that every row fills in."""
    return Column(name, kind, nullable=False, index=index)


def _number() -> Column[Any]:
    """Make the key of rows that are only numbered."""
    # SQLite numbers rows by itself only for a column that is INTEGER to the letter.
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)


def _id() -> Column[Any]:
    return Column("id", String(12), primary_key=True)


def _of_episode(*, optional: bool = False) -> Column[Any]:
    owner = ForeignKey("episode.id", ondelete="CASCADE")
    return Column("episode_id", String(12), owner, nullable=optional, index=True)


def _part_of_episode(number: str) -> tuple[Column[Any], Column[Any]]:
    """Make a key of the episode, whose index is the key's, and a number within it."""
    owner = ForeignKey("episode.id", ondelete="CASCADE")
    return (
        Column("episode_id", String(12), owner, primary_key=True),
        Column(number, Integer(), primary_key=True, autoincrement=False),
    )


RUN = Table(
    "run",
    METADATA,
    _id(),
    _given("created", _TIME, index=True),
    _given("command", _PROSE),
    _given("scenario_name", _NAME),
    _given("scenario_text", _PROSE),
    Column("versions", _JSON),
    Column("git_commit", _NAME),
    Column("git_dirty", Boolean()),
    _given("host", _NAME),
    Column("device", _NAME),
    _given("python", _NAME),
)
"""One call of the program."""


_ADDED = ("accounts_used", "attack_price", "clone_metrics")
"""Fields of `OutcomeRow` that later schemas brought: their columns stand last."""


def _outcome_columns(*, added: bool) -> Iterator[Column[Any]]:
    """Make a column for each field of `OutcomeRow`, in their order; the added ones apart."""
    types: Mapping[object, TypeEngine[Any]] = {
        int: _COUNT, float: _MEASURE, str: _NAME, JsonMap: _JSON,
    }  # fmt: skip
    for field in fields(OutcomeRow):
        kind, _ = get_args(field.type)  # each is optional
        if (field.name in _ADDED) == added:
            yield Column(field.name, types[kind])


EPISODE = Table(
    "episode",
    METADATA,
    _id(),
    Column(
        "run_id", String(12), ForeignKey("run.id", ondelete="CASCADE"), nullable=False, index=True
    ),
    _given("scenario_name", _NAME, index=True),
    _given("kind", _NAME),
    _given("seed", _COUNT),
    _given("attacker", _NAME),
    _given("defender", _NAME),
    _given("victim", _NAME),
    _given("clone", _NAME),
    _given("data", _NAME),
    _given("budget", _COUNT),
    Column("num_classes", _COUNT),
    Column("exit_names", Names()),
    Column("clone_normalisation", _NAME),
    Column("test_overlap", _COUNT),
    _given("status", _NAME),
    Column("error", _PROSE),
    _given("started", _TIME, index=True),
    Column("finished", _TIME),
    Column("wall_seconds", _MEASURE),
    _given("pid", _COUNT),
    _given("host", _NAME),
    _given("process_started", _NAME),
    _given("heartbeat", _TIME),
    Column("device", _NAME),
    Column("git_commit", _NAME),
    Column("versions", _JSON),
    _given("plan_hash", _NAME),
    Column("attacker_params", _JSON),
    Column("defender_params", _JSON),
    *_outcome_columns(added=False),
    # Late, because it is long: SQLite reads a row only as far as the columns asked for.
    Column("plan", _JSON),
    Column("content_digest", _NAME),
    *_outcome_columns(added=True),
    Index("ix_episode_plan_hash_status", "plan_hash", "status"),
    Index("ix_episode_status_host", "status", "host"),
    Index("ix_episode_attacker_defender", "attacker", "defender"),
)
"""One episode: its plan, its fate and its outcome, whose columns are those of `OutcomeRow`."""


ROUND = Table(
    "round",
    METADATA,
    *_part_of_episode("bucket"),
    _given("first_round", _COUNT),
    _given("rounds", _COUNT),
    _given("attack_answered", _COUNT),
    _given("benign_answered", _COUNT),
    _given("queries_used", _COUNT),
    Column("attack_exits", _EXITS),
    Column("benign_exits", _EXITS),
    Column("attack_macs", _COUNT),
    Column("benign_macs", _COUNT),
    Column("attack_seconds", _MEASURE),
    Column("benign_seconds", _MEASURE),
    _given("benign_correct", _COUNT),
    Column("query_digest", _NAME),
    Column("answer_digest", _NAME),
    Column("countermeasure", _JSON),
)
"""A bounded bucket of rounds, summed up."""


CHECKPOINT = Table(
    "checkpoint",
    METADATA,
    *_part_of_episode("index"),
    _given("queries_used", _COUNT),
    Column("clone_accuracy", _MEASURE),
    Column("clone_fidelity", _MEASURE),
    Column("wall_seconds", _MEASURE),
    Column("metrics", _JSON),
)
"""One measurement along the budget."""


INFERENCE = Table(
    "inference",
    METADATA,
    _number(),
    _of_episode(),
    _given("attribute", _NAME),
    Column("inferred", _JSON),
    Column("truth", _JSON),
    Column("correct", Boolean()),
    Column("confidence", _MEASURE),
)
"""One thing the attacker says about the victim."""


EVENT = Table(
    "event",
    METADATA,
    _number(),
    _of_episode(optional=True),
    _given("time", _TIME),
    Column("queries_used", _COUNT),
    _given("kind", _NAME),
    _given("message", _PROSE),
    Column("data", _JSON),
)
"""One thing that happened, in an episode or to the log as a whole."""


ACCOUNT = Table(
    "account",
    METADATA,
    *_part_of_episode("account"),
    _given("client", _COUNT),
    _given("queries_used", _COUNT),
)
"""What one account of the attacker was charged."""


ARTIFACT = Table(
    "artifact",
    METADATA,
    _number(),
    _of_episode(),
    _given("kind", _NAME),
    _given("path", _PROSE),
    _given("sha256", String(64)),
    _given("bytes", _COUNT),
    Column("meta", _JSON),
)
"""A file that belongs to an episode."""


CHILDREN = (ROUND, CHECKPOINT, INFERENCE, EVENT, ACCOUNT, ARTIFACT)
"""What belongs to an episode: it is copied with it and goes with it."""
