"""Plays a logged episode again, from its plan and its seed, and holds the two side by side.

The log keeps running digests of queries and answers, bucket by bucket, so the first bucket that
differs tells in which rounds a replay leaves its original; where a tape was kept, the very round is
named. The replay is written into a log that is thrown away.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from pydantic import ValidationError

from arena.log.checking import changes
from arena.log.outcome import METRICS
from arena.log.rows import AccountRow, CheckpointRow, EpisodeRow, InferenceRow, RoundRow
from arena.log.store import Log
from arena.registry.trust import require_trust
from arena.replay.causes import Then, conditions, contradictions
from arena.replay.compare_queries import (
    Parting,
    TapesCompared,
    compare_tapes,
    has_tape,
    scratch_log,
)
from arena.runner.progress import Watcher
from arena.runner.resume import play_one
from arena.runner.run_record import run_record
from arena.runner.setup import Setup
from arena.scenario import EpisodePlan
from arena.system.devices import pick_device
from arena.system.threads import threads_of
from envs.errors import ArenaError

_Row = TypeVar("_Row", RoundRow, CheckpointRow, AccountRow)

_TIMES = {"attack_seconds", "benign_seconds", "wall_seconds", "metrics"}
"""Never alike twice, or not measured by the referee: seconds, and what attackers report."""

_SCORES = tuple(name for name, metric in METRICS.items() if metric.reproduced)


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


@dataclass(frozen=True, slots=True)
class Verification:
    """What a replay found.

    Attributes:
        episode: the id of the original.
        title: attacker, defender and seed.
        device: where it was played again.
        buckets, checkpoints, scores: how many of each were compared.
        differences: in the order of play; empty where the replay is the same.
        causes: what may be behind them, the likeliest first; empty where there are none.
        notes: what to know about the comparison.
        tape_fault: what is wrong with a tape whose files are all there; "" for nothing.
        changed: what shows that the log was changed after the episode's end.
    """

    episode: str
    title: str
    device: str
    buckets: int
    checkpoints: int
    scores: int
    differences: tuple[Difference, ...]
    causes: tuple[str, ...]
    notes: tuple[str, ...]
    tape_fault: str = ""
    changed: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether all that was compared is the same, and the log and the tape as written."""
        return not self.differences and not self.tape_fault and not self.changed


@dataclass(frozen=True)
class _Told:
    """Everything one log says of one episode."""

    row: EpisodeRow
    rounds: Sequence[RoundRow]
    checkpoints: Sequence[CheckpointRow]
    inferences: Sequence[InferenceRow]
    accounts: Sequence[AccountRow]


def verify(
    log: Log,
    id: str,
    *,
    device: str | None = None,
    watcher: Watcher | None = None,
    trust_plugins: bool = False,
) -> Verification:
    """Play an episode again and compare it with the log, bucket by bucket.

    Args:
        log: where the original is; nothing is written to it.
        id: of the episode, or a beginning of it.
        device: where to play; the original's, or the CPU where that is not there.
        watcher: looks on.
        trust_plugins: whether files and modules that the log names may be imported.

    Raises:
        ArenaError: no such episode, or one that cannot be played again, or that names code which is
            not trusted.
    """
    row = log.episode(id)
    plan = logged_plan(row)
    if not trust_plugins:
        require_trust(plan.model_dump(mode="json"))
    logged = _told(log, row)
    place, notes = _place(row, device)
    taped = has_tape(log, row.id)
    with scratch_log(taped=taped) as scratch, threads_of(row.versions):
        replayed = _play(plan, scratch, place, watcher or Watcher())
        tapes = compare_tapes(log, row.id, scratch, replayed=replayed.row.id) if taped else None
    cut = row.status == "cancelled" or any(event.kind == "died" for event in log.events(row.id))
    if cut:
        notes.append("the original was cut short: what it logged until then was compared")
        logged, replayed = _until_the_cut(logged, replayed)
    differences = tuple(_differences(logged, replayed, scores=not cut))
    if tapes is not None and tapes.gone:
        notes.append(f"rounds could not be compared one by one: {tapes.gone}")
    if tapes is not None and tapes.parting and not (cut and tapes.parting.what == "round"):
        differences = (_parting(tapes.parting), *differences)
    if plan.threat.latency == "wall":
        notes.append(
            "latency was really measured, so that an attacker who looks at it asks other queries "
            "each time: differences may be the clock's"
        )
    return Verification(
        episode=row.id,
        title=plan.title,
        device=str(place),
        buckets=len(logged.rounds),
        checkpoints=len(logged.checkpoints),
        scores=0 if cut else len(_SCORES),
        differences=differences,
        causes=tuple(_causes(log, logged, replayed, plan=plan, tapes=tapes)) if differences else (),
        notes=tuple(notes),
        tape_fault=tapes.fault if tapes is not None else "",
        changed=tuple(_changed(log, row, plan)),
    )


def logged_plan(row: EpisodeRow) -> EpisodePlan:
    """Read the plan of a logged play.

    Raises:
        ArenaError: it is a what-if, still being played, or its plan is of another version.
    """
    if row.kind != "play":
        raise ArenaError(
            f"episode {row.id} is a {row.kind}; name the play whose queries it answered"
        )
    if row.status == "started":
        raise ArenaError(f"episode {row.id} is still being played; wait until it has ended")
    try:
        plan = EpisodePlan.model_validate(row.plan)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "the plan"
        raise ArenaError(
            f"episode {row.id} cannot be played by this version: {place}: {fault['msg']}; "
            f"use the version that played it ({row.versions.get('fortress-arena', 'unknown')})"
        ) from error
    if plan.victim.is_remote:
        raise ArenaError(
            f"the victim of episode {row.id} runs elsewhere ({plan.victim.use}): playing it again "
            f"would ask, and charge, every query again; run its scenario anew instead"
        )
    return plan


def _changed(log: Log, row: EpisodeRow, plan: EpisodePlan) -> Iterator[str]:
    yield from changes(log, row.id)
    if plan.hash != row.plan_hash:
        yield f"episode {row.id}: its plan_hash is not that of its plan"


def _place(row: EpisodeRow, device: str | None) -> tuple[torch.device, list[str]]:
    """Choose where to play: as asked, as the original, or on the CPU and say so."""
    if device is not None:
        return pick_device(device), []
    try:
        return pick_device((row.device or "cpu").split()[0]), []
    except ArenaError as error:
        return torch.device("cpu"), [f"{error}; played on the CPU instead"]


def _play(plan: EpisodePlan, log: Log, place: torch.device, watcher: Watcher) -> _Told:
    record = run_record("arena.replay.verify.verify", place, scenario_name="replay")
    watcher.begin(plan.title, 0, 1)
    row, interrupted = play_one(
        plan, Setup(place, watcher), log, run=log.begin_run(record), record=record
    )
    watcher.end(plan.title, row.id, row.status, row.error)
    if interrupted:
        raise KeyboardInterrupt
    return _told(log, row)


def _told(log: Log, row: EpisodeRow) -> _Told:
    return _Told(
        row,
        log.rounds(row.id),
        log.checkpoints(row.id),
        log.inferences(row.id),
        log.accounts(row.id),
    )


def _until_the_cut(logged: _Told, replayed: _Told) -> tuple[_Told, _Told]:
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
        _Told(logged.row, rounds, checkpoints, (), ()),
        _Told(
            replayed.row,
            [bucket for bucket in replayed.rounds if bucket.bucket in numbers],
            [point for point in replayed.checkpoints if point.index in indices],
            (),
            (),
        ),
    )


def _differences(logged: _Told, replayed: _Told, *, scores: bool) -> Iterator[Difference]:
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
    if scores:
        for name in ("status", "error", *_SCORES, "clone_metrics"):
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


def _rounds_text(bucket: RoundRow | None) -> str:
    assert bucket is not None
    first, last = bucket.first_round, bucket.first_round + bucket.rounds - 1
    rounds = f"round {first}" if first == last else f"rounds {first} to {last}"
    start = bucket.queries_used - bucket.attack_answered + 1
    return f"bucket {bucket.bucket} ({rounds}, queries {start} to {bucket.queries_used})"


def _parting(parting: Parting) -> Difference:
    where = f"round {parting.round} of the tape, queries {parting.first} to {parting.last}"
    return Difference(where, parting.what, parting.then, parting.now)


def _causes(
    log: Log,
    logged: _Told,
    replayed: _Told,
    *,
    plan: EpisodePlan,
    tapes: TapesCompared | None,
) -> list[str]:
    """Name what may be behind differences, the likeliest first."""
    if tapes is not None and tapes.same:
        return ["every query and answer on the tape is the same: the log was altered"]
    run = next((run for run in log.runs() if run.id == logged.row.run_id), None)
    then = Then(logged.row, run.git_dirty if run else None, plan)
    found = contradictions(then, logged.rounds, replayed.rounds) + conditions(then, replayed.row)
    return found or [
        "versions, device, code and settings are those of the original: nondeterminism, or an "
        "altered log"
    ]
