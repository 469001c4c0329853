"""Lays an episode out step by step from the log alone; plays nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from arena.analysis.trained import trained_points
from arena.log.outcome import JsonMap
from arena.log.reader import LogReader
from arena.log.rows import CheckpointRow, EpisodeRow, EventRow, Exits, RoundRow


@dataclass(frozen=True, slots=True)
class TimelineStep:
    """Where an episode stood after a bucket of rounds.

    Attributes:
        used, budget: images asked and granted.
        seconds: since the episode began, interpolated between checkpoints.
        clone_accuracy: last measured until then, in [0, 1]; None before a trained clone was.
        measured: whether it was measured just now.
        attack_exits, benign_exits: images by deployed defence and exit, in this bucket alone.
        benign_correct, benign_answered: benign images answered rightly and answered, in it.
        countermeasure: which settings answered whom in it; see
            `arena.runner.countermeasures`.
        events: what happened in it.
    """

    used: int
    budget: int
    seconds: float
    clone_accuracy: float | None
    measured: bool
    attack_exits: Exits
    benign_exits: Exits
    benign_correct: int
    benign_answered: int
    countermeasure: JsonMap
    events: tuple[EventRow, ...]


def timeline_steps(log: LogReader, row: EpisodeRow) -> list[TimelineStep]:
    """Read the steps of an episode; see `steps_of`."""
    rounds, points, events = log.rounds(row.id), log.checkpoints(row.id), log.events(row.id)
    return steps_of(row, rounds, points, events)


def steps_of(
    row: EpisodeRow,
    rounds: Sequence[RoundRow],
    points: Sequence[CheckpointRow],
    events: Sequence[EventRow],
) -> list[TimelineStep]:
    """List the steps of an episode in order; empty where no rounds were logged.

    An event without a place along the budget comes with the last moment.
    """
    found: list[TimelineStep] = []
    trained = trained_points(points)
    before = -1
    for bucket in rounds:
        last = bucket is rounds[-1]
        learnt = [one for one in trained if last or one.queries_used <= bucket.queries_used]
        clone = learnt[-1].clone_accuracy if learnt else None
        found.append(_moment(bucket, points, events, clone, row.budget, before, last=last))
        before = bucket.queries_used
    return found


def _moment(
    bucket: RoundRow,
    points: Sequence[CheckpointRow],
    events: Sequence[EventRow],
    clone: float | None,
    budget: int,
    before: int,
    *,
    last: bool,
) -> TimelineStep:
    now = bucket.queries_used
    so_far = [point for point in points if last or point.queries_used <= now]
    fresh = [point for point in so_far if point.queries_used > before or last]
    happened = tuple(
        event
        for event in events
        if (last if event.queries_used is None else before < event.queries_used <= now)
    )
    return TimelineStep(
        used=now,
        budget=budget,
        seconds=_seconds(now, points),
        clone_accuracy=clone,
        measured=bool(fresh),
        attack_exits=bucket.attack_exits or (),
        benign_exits=bucket.benign_exits or (),
        benign_correct=bucket.benign_correct,
        benign_answered=bucket.benign_answered,
        countermeasure=bucket.countermeasure or {},
        events=happened,
    )


def _seconds(used: int, points: Sequence[CheckpointRow]) -> float:
    """Interpolate the time at which so many queries were used."""
    earlier_queries, earlier = 0, 0.0
    for point in points:
        if point.queries_used >= used:
            span = point.queries_used - earlier_queries
            share = (used - earlier_queries) / span if span else 1.0
            return earlier + share * (point.wall_seconds - earlier)
        earlier_queries, earlier = point.queries_used, point.wall_seconds
    return earlier


def exits_text(counts: Exits) -> str:
    """Write shares by exit in whole percent: "62/28/10"; "-" where nothing was answered.

    Those of several deployed defences stand side by side: "62/28/10 | -".
    """
    total = sum(map(sum, counts))
    return " | ".join(_shares(row, total) for row in counts) if total else "-"


def _shares(row: Sequence[int], total: int) -> str:
    return "/".join(f"{100 * count / total:.0f}" for count in row) if any(row) else "-"
