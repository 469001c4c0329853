"""Plays a logged episode again, from its plan and its seed, and holds the two side by side.

The log keeps running digests of queries and answers, bucket by bucket, so the first bucket that
differs tells in which rounds a replay leaves its original; where a tape was kept, the very round is
named. The replay is written into a log that is thrown away.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from pydantic import ValidationError

from arena.log.checking import changes
from arena.log.rows import EpisodeRow
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
from arena.replay.compare_rows import SCORES, Difference, Told, differences_of, told, until_the_cut
from arena.runner.progress import Watcher
from arena.runner.resume import play_one
from arena.runner.run_record import run_record
from arena.runner.setup import Setup
from arena.runner.time_limit import TIME_UP
from arena.scenario import EpisodePlan
from arena.system.devices import pick_device
from arena.system.threads import threads_of
from envs.errors import ArenaError


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
    logged = told(log, row)
    place, notes = _place(row, device)
    taped = has_tape(log, row.id)
    with scratch_log(taped=taped) as scratch, threads_of(row.versions):
        replayed = _play(plan, scratch, place, watcher or Watcher())
        tapes = compare_tapes(log, row.id, scratch, replayed=replayed.row.id) if taped else None
    late = (row.error or "").startswith(TIME_UP)
    died = any(event.kind == "died" for event in log.events(row.id))
    cut = late or died or row.status == "cancelled"
    if cut:
        notes.append("the original was cut short: what it logged until then was compared")
        logged, replayed = until_the_cut(logged, replayed)
    if late:  # and so may the replay be, sooner
        replayed, logged = until_the_cut(replayed, logged)
    differences = tuple(differences_of(logged, replayed, scores=not cut))
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
        scores=0 if cut else len(SCORES),
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


def _play(plan: EpisodePlan, log: Log, place: torch.device, watcher: Watcher) -> Told:
    record = run_record("arena.replay.verify.verify", place, scenario_name="replay")
    watcher.begin(plan.title, 0, 1)
    row, interrupted = play_one(
        plan, Setup(place, watcher), log, run=log.begin_run(record), record=record
    )
    watcher.end(plan.title, row.id, row.status, row.error)
    if interrupted:
        raise KeyboardInterrupt
    return told(log, row)


def _parting(parting: Parting) -> Difference:
    where = f"round {parting.round} of the tape, queries {parting.first} to {parting.last}"
    return Difference(where, parting.what, parting.then, parting.now)


def _causes(
    log: Log,
    logged: Told,
    replayed: Told,
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
