"""Holds what two logs say of one episode side by side, row by row."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from typing import TypeVar

from arena.log.outcome import METRICS
from arena.log.reader import LogReader
from arena.log.rows import (
    AccountRow,
    CheckpointRow,
    EpisodeRow,
    EventRow,
    InferenceRow,
    RoundRow,
)

_Row = TypeVar("_Row", RoundRow, CheckpointRow, AccountRow)

_TIMES = {"attack_seconds", "benign_seconds", "wall_seconds", "metrics"}
"""Never alike twice, or not measured by the referee: seconds, and what attackers report."""

SET_UP = ("num_classes", "exit_names", "clone_normalisation", "test_overlap")
"""Columns that are known when a game is set up."""

SCORES = tuple(name for name, metric in METRICS.items() if metric.reproduced)
"""Columns of an outcome that a replay brings again."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that a replay did not reproduce.

    Attributes:
        where: which part of the episode, for people ("rounds 12 to 23, queries 201 to 300").
        what: the column of the log.
        logged, replayed: its two values; None where one side has no such row.
    """

    where: str
    what: str
    logged: object
    replayed: object

    def __str__(self) -> str:
        name = self.what.replace("_", " ")
        return f"{self.where}: {name} logged as {self.logged}, replayed as {self.replayed}"


@dataclass(frozen=True)
class Told:
    """Everything one log says of one episode; of its events what the defender noticed."""

    row: EpisodeRow
    rounds: Sequence[RoundRow]
    checkpoints: Sequence[CheckpointRow]
    inferences: Sequence[InferenceRow]
    accounts: Sequence[AccountRow]
    notes: Sequence[EventRow]


def told(log: LogReader, row: EpisodeRow) -> Told:
    """Read everything that a log says of an episode."""
    return Told(
        row,
        log.rounds(row.id),
        log.checkpoints(row.id),
        log.inferences(row.id),
        log.accounts(row.id),
        [
            one
            for one in log.events(row.id)
            if one.kind == "alarm" or "answered" in (one.data or {})
        ],
    )


def until_the_cut(logged: Told, replayed: Told) -> tuple[Told, Told]:
    """Keep what both played, without the last row of a kind that the cut ended early."""
    ends = {bucket.bucket: bucket.queries_used for bucket in replayed.rounds}
    points = {point.index: point.queries_used for point in replayed.checkpoints}
    rounds, checkpoints = list(logged.rounds), list(logged.checkpoints)
    if rounds and ends.get(rounds[-1].bucket) != rounds[-1].queries_used:
        rounds.pop()
    if checkpoints and points.get(checkpoints[-1].index) != checkpoints[-1].queries_used:
        checkpoints.pop()
    numbers = {bucket.bucket for bucket in rounds}
    indices = {point.index for point in checkpoints}
    return (
        Told(logged.row, rounds, checkpoints, (), (), ()),
        Told(
            replayed.row,
            [bucket for bucket in replayed.rounds if bucket.bucket in numbers],
            [point for point in replayed.checkpoints if point.index in indices],
            (),
            (),
            (),
        ),
    )


def differences_of(logged: Told, replayed: Told, *, scores: bool) -> Iterator[Difference]:
    """List what a replay did not reproduce, in the order of play; scores of the outcome last."""
    buckets = _pairs({b.bucket: b for b in logged.rounds}, {b.bucket: b for b in replayed.rounds})
    for one, other in buckets:
        yield from _between(one, other, where=_rounds_text(one or other))
    points = _pairs(
        {p.index: p for p in logged.checkpoints}, {p.index: p for p in replayed.checkpoints}
    )
    for mark, again in points:
        known = mark or again
        assert known is not None
        where = f"checkpoint {known.index}, after {known.queries_used} queries"
        yield from _between(mark, again, where=where)
    yield from _inferences(logged.inferences, replayed.inferences)
    accounts = _pairs(
        {a.account: a for a in logged.accounts}, {a.account: a for a in replayed.accounts}
    )
    for one_account, again_account in accounts:
        named = one_account or again_account
        assert named is not None
        yield from _between(one_account, again_account, where=f"account {named.account}")
    yield from _notes(logged.notes, replayed.notes)
    for name in SET_UP:
        then, now = getattr(logged.row, name), getattr(replayed.row, name)
        if then not in (None, now):  # older logs do not know all of it
            yield Difference("what was set up", name, then, now)
    if scores:
        for name in ("status", "error", *SCORES, "clone_metrics"):
            then, now = getattr(logged.row, name), getattr(replayed.row, name)
            if then != now:
                yield Difference("the episode's outcome", name, then, now)


def _pairs(
    logged: Mapping[int, _Row], replayed: Mapping[int, _Row]
) -> Iterator[tuple[_Row | None, _Row | None]]:
    for key in sorted(logged.keys() | replayed.keys()):
        yield logged.get(key), replayed.get(key)


def _between(logged: object, replayed: object, *, where: str) -> Iterator[Difference]:
    """Compare two rows of one class, field by field; a missing one is one difference."""
    if logged is None or replayed is None:
        words = [None if row is None else "there" for row in (logged, replayed)]
        yield Difference(where, "row", *words)
        return
    for field in fields(logged):  # type: ignore[arg-type]  # rows are dataclasses
        if field.name not in _TIMES:
            then, now = getattr(logged, field.name), getattr(replayed, field.name)
            if then != now:
                yield Difference(where, field.name, then, now)


def _inferences(
    logged: Sequence[InferenceRow], replayed: Sequence[InferenceRow]
) -> Iterator[Difference]:
    then = {row.attribute: row for row in logged}
    now = {row.attribute: row for row in replayed}
    for name in dict.fromkeys([*then, *now]):
        yield from _between(then.get(name), now.get(name), where=f"the inference about {name}")


def _notes(logged: Sequence[EventRow], replayed: Sequence[EventRow]) -> Iterator[Difference]:
    """Compare what the defender noticed, in its order."""
    for number, (then, now) in enumerate(zip_longest(logged, replayed), start=1):
        known = then or now
        said = [None if one is None else one.message for one in (then, now)]
        alike = then and now and _said(then) == _said(now)
        if known is not None and not alike:
            yield Difference(f"event {number} of the defender, {known.kind}", "message", *said)


def _said(note: EventRow) -> tuple[object, ...]:
    message = note.message.replace(",", "")  # older programs wrote 1000, later ones 1,000
    return note.kind, message, note.queries_used, note.data


def _rounds_text(bucket: RoundRow | None) -> str:
    assert bucket is not None
    first, last = bucket.first_round, bucket.first_round + bucket.rounds - 1
    rounds = f"round {first}" if first == last else f"rounds {first} to {last}"
    start = bucket.queries_used - bucket.attack_answered + 1
    return f"bucket {bucket.bucket} ({rounds}, queries {start} to {bucket.queries_used})"
