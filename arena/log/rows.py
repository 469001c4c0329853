"""Defines the values that go into the log and come out of it: plain Python, frozen.

`...Record` is what a caller states when something begins, `...Row` is what lies in the log.
Nothing here knows a database or a tensor. What an episode came to is in `arena.log.outcome`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from arena.log.outcome import JsonMap, OutcomeRow

Ending = Literal["success", "cancelled", "error"]
Status = Literal["started", "success", "cancelled", "error"]
Kind = Literal["play", "what-if", "served"]


Exits = tuple[tuple[int, ...], ...]
"""Images per exit, of each deployed defence in order."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """State what one call of the program is about to play.

    Attributes:
        command: the command line, or the name of the function that was called.
        scenario_name: name of the scenario file's scenario.
        scenario_text: the file as it was read, with its overrides applied.
        versions: package name to version.
        git_commit: commit of the caller's working tree, where there is one.
        git_dirty: the tree had changes that are in no commit.
        host: name of the machine; the store fills in its own where None.
        device: the device asked for ("cpu", "cuda:0 NVIDIA H200").
        python: version of the interpreter; the store fills in its own where None.
    """

    command: str
    scenario_name: str
    scenario_text: str = ""
    versions: JsonMap = field(default_factory=dict)
    git_commit: str | None = None
    git_dirty: bool | None = None
    host: str | None = None
    device: str | None = None
    python: str | None = None


@dataclass(frozen=True, kw_only=True)
class RunRow(RunRecord):
    """Hold one run as it lies in the log. `created` is in UTC."""

    id: str
    created: datetime


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """State what one episode is about to play.

    Attributes:
        scenario_name: the scenario the episode belongs to.
        plan_hash: content hash of everything that bears on the result.
        plan: the settings of this one episode, fully resolved.
        seed: the seed of all its streams.
        attacker: name of the attacker, as the scoreboard shows it.
        attacker_params: its parameters.
        defender: name of the defender.
        defender_params: its parameters.
        victim: name of the victim's network.
        clone: name of the clone's network.
        data: name of the data set.
        budget: images the attacker may ask for.
        kind: "play", "what-if" for a replay with something changed, or "served" for the queries of
            one API key of `arena serve`, whose name stands as the attacker's.
        versions: package name to version.
        git_commit: commit of the caller's working tree, where there is one.
        device: the device it runs on.
    """

    scenario_name: str
    plan_hash: str
    plan: JsonMap
    seed: int
    attacker: str
    defender: str
    victim: str
    clone: str
    data: str
    budget: int
    attacker_params: JsonMap = field(default_factory=dict)
    defender_params: JsonMap = field(default_factory=dict)
    kind: Kind = "play"
    versions: JsonMap = field(default_factory=dict)
    git_commit: str | None = None
    device: str | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeRow(EpisodeRecord, OutcomeRow):
    """Hold one episode as it lies in the log: its plan, its fate and its outcome in one row.

    Attributes:
        id: 12 hexadecimal digits, the digest of run and plan.
        run_id: the run that played it.
        num_classes: classes of the victim; None until the game is set up.
        exit_names: names of the exits of each deployed defence, in order; None likewise.
        clone_normalisation: whose mean and deviation clones normalise images by: "none", "pool" (of
            the attacker), "victim", or "given" by the scenario; None likewise.
        test_overlap: images that clones are scored on in the attacker's pool; None without one.
        status: "started" until it ends; the next open of the log marks the dead.
        error: one line, where the status is "error".
        started: UTC.
        finished: UTC, None while it runs and for the dead.
        wall_seconds: from begin to finish.
        pid: process that plays it.
        host: machine it runs on.
        process_started: which process of that number it is; see `arena.log.processes.Process`.
        heartbeat: UTC, the latest sign of life while it is played.
        content_digest: of all its rows, written at its end; see `arena.log.content`.
    """

    id: str
    run_id: str
    num_classes: int | None
    exit_names: tuple[tuple[str, ...], ...] | None
    clone_normalisation: str | None
    test_overlap: int | None
    status: Status
    error: str | None
    started: datetime
    finished: datetime | None
    wall_seconds: float | None
    pid: int
    host: str
    process_started: str
    heartbeat: datetime
    content_digest: str | None = None

    @cached_property
    def victim_settings(self) -> str:
        """What tells its victim from others: network, data and their settings, as JSON."""
        parts = (self.victim, self.plan.get("victim"), self.data, self.plan.get("data"))
        return json.dumps(parts, sort_keys=True, default=str)

    @property
    def is_remote(self) -> bool:
        """Whether the victim runs elsewhere, so that nothing is known of it but its answers."""
        victim = self.plan.get("victim")
        return isinstance(victim, Mapping) and (
            "permission" in victim
            or str(victim.get("use")).lower().startswith(("http://", "https://"))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundRow:
    """Sum up a bounded bucket of consecutive rounds.

    Attributes:
        bucket: number of the bucket, from 0, unique in its episode.
        first_round: number of its first round.
        rounds: how many rounds it sums up.
        attack_answered: images answered to the attacker.
        benign_answered: images answered to benign users.
        queries_used: the ledger after its last round (cumulative).
        attack_exits: attacker's images per exit, of each deployed defence; None where an older
            log summed them, and, as compute and latencies, where the victim runs elsewhere.
        benign_exits: benign images likewise.
        attack_macs: compute spent on the attacker, in MACs.
        benign_macs: compute spent on benign users, in MACs.
        attack_seconds: sum of latencies towards the attacker.
        benign_seconds: sum of latencies towards benign users.
        benign_correct: benign images answered with their label's class.
        query_digest: digest of the bucket's queries.
        answer_digest: digest of the bucket's answers.
        countermeasure: which settings answered whom; see `arena.runner.countermeasures`.
    """

    bucket: int
    first_round: int
    rounds: int
    attack_answered: int
    benign_answered: int
    queries_used: int
    attack_exits: Exits | None = ()
    benign_exits: Exits | None = ()
    attack_macs: int | None = 0
    benign_macs: int | None = 0
    attack_seconds: float | None = None
    benign_seconds: float | None = None
    benign_correct: int = 0
    query_digest: str | None = None
    answer_digest: str | None = None
    countermeasure: JsonMap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundAnswers:
    """Hold the part of a `RoundRow` that reports draw; a long log is read in half the time."""

    queries_used: int
    attack_exits: Exits | None = ()
    benign_exits: Exits | None = ()
    benign_answered: int = 0
    benign_correct: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRow:
    """Hold one measurement along the budget.

    Attributes:
        index: number of the checkpoint, from 0, unique in its episode.
        queries_used: the ledger at the measurement.
        clone_accuracy: in [0, 1], where the referee measured it.
        clone_fidelity: in [0, 1], agreement with the undefended victim.
        wall_seconds: since the episode began.
        metrics: whatever else was measured, by name.
    """

    index: int
    queries_used: int
    wall_seconds: float
    clone_accuracy: float | None = None
    clone_fidelity: float | None = None
    metrics: JsonMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRow:
    """Hold one thing the attacker says about the victim, beside the truth.

    Attributes:
        attribute: what it is about ("family", "depth", "exits").
        inferred: what the attacker says, any JSON value.
        truth: what is the case.
        correct: the referee's verdict; None where nothing is to compare.
        confidence: the attacker's own, in [0, 1].
    """

    attribute: str
    inferred: object
    truth: object = None
    correct: bool | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Hold one thing that happened. `time` is in UTC."""

    time: datetime
    kind: str
    message: str
    queries_used: int | None = None
    data: JsonMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactRow:
    """Point at a file that belongs to an episode.

    Attributes:
        kind: what it is ("clone-weights", "sample-queries").
        path: where it lies.
        sha256: of its content, hexadecimal.
        bytes: its size.
        meta: whatever a reader needs to make sense of it.
    """

    kind: str
    path: str
    sha256: str
    bytes: int
    meta: JsonMap = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """Hold what one account of the attacker was charged; written at the episode's end.

    Attributes:
        account: its number, from 0.
        client: the number under which the server saw it.
        queries_used: images charged to it, at least 1.
    """

    account: int
    client: int
    queries_used: int


def added_exits(*counts: Exits | None) -> Exits:
    """Add images per exit, defence by defence; a shorter list has none at the last exits."""
    by_defence = zip_longest(*(one or () for one in counts), fillvalue=())
    return tuple(tuple(map(sum, zip_longest(*rows, fillvalue=0))) for rows in by_defence)
