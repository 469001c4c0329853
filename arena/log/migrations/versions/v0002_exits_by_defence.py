"""Counts of exits become a list for each deployed defence; before, they were summed by number.

The exits of an episode with one defence move into a list. Where several were deployed, a bucket
whose images one of them answered is given to it; the exits of other buckets cannot be told apart
any more and become NULL.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision: str | None = "v0001"

# Any: JSON as it lies there
Row = sa.RowMapping
Exits = list[Any] | None
Convert = Callable[[str, Row], Exits]

_TOGETHER = 500  # rows that are written at once

_ROUND = sa.table(
    "round",
    sa.column("episode_id", sa.String),
    sa.column("bucket", sa.Integer),
    sa.column("attack_exits", sa.JSON(none_as_null=True)),
    sa.column("benign_exits", sa.JSON(none_as_null=True)),
    sa.column("countermeasure", sa.JSON(none_as_null=True)),
)
_EPISODE = sa.table(
    "episode", sa.column("id", sa.String), sa.column("exit_names", sa.JSON(none_as_null=True))
)


def upgrade() -> None:
    """Apply it."""
    for id, names in op.get_bind().execute(sa.select(_EPISODE.c.id, _EPISODE.c.exit_names)).all():
        alone = isinstance(names, list) and len(names) == 1
        _rewrite(id, partial(_by_defence, alone=alone))


def downgrade() -> None:
    """Take it back."""
    for (id,) in op.get_bind().execute(sa.select(_EPISODE.c.id)).all():
        _rewrite(id, _summed)


def _rewrite(id: str, convert: Convert) -> None:
    """Convert both columns of an episode's buckets."""
    bind = op.get_bind()
    changed: list[dict[str, Any]] = []
    for row in bind.execute(sa.select(_ROUND).where(_ROUND.c.episode_id == id)).mappings():
        sides = {side: convert(side, row) for side in ("attack", "benign")}
        changed.append({"key": row["bucket"], **sides})
    statement = (
        sa.update(_ROUND)
        .where(_ROUND.c.episode_id == id, _ROUND.c.bucket == sa.bindparam("key"))
        .values(attack_exits=sa.bindparam("attack"), benign_exits=sa.bindparam("benign"))
    )
    for first in range(0, len(changed), _TOGETHER):
        bind.execute(statement, changed[first : first + _TOGETHER])


def _by_defence(side: str, row: Row, *, alone: bool) -> Exits:
    counts = row[f"{side}_exits"]
    if counts is None or alone or not sum(counts):
        return counts and [counts]
    told = row["countermeasure"] or {}
    defences = {entry["defence"] for entry in told.get(side, ())}
    if len(defences) != 1 or told.get(f"{side}_others"):
        return None
    return [[]] * defences.pop() + [counts]


def _summed(side: str, row: Row) -> Exits:
    rows = row[f"{side}_exits"]
    if rows is None:
        return None
    width = max(map(len, rows), default=0)
    return [sum(one[exit] for one in rows if exit < len(one)) for exit in range(width)]
