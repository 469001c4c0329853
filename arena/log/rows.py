"""Defines the values that go into the log and come out of it: plain Python, frozen.

`...Record` is what a caller states when something begins, `...Row` is what lies in the log.
Nothing here knows a database or a tensor. A new metric of an episode is one more field of
`OutcomeRow`, and a migration that adds its column; everything else follows from the field.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from arena.log.metric import Metric, metric, metrics_of

Ending = Literal["success", "cancelled", "error"]
Status = Literal["started", "success", "cancelled", "error"]
Kind = Literal["play", "what-if", "served"]

JsonMap = Mapping[str, object]

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
class OutcomeRow:
    """Hold what an episode came to; None where something was not measured.

    Accuracies, agreements and shares lie in [0, 1]; distortions are L1 distances between served
    and clean posteriors in [0, 2]; compute is multiply-accumulates (MACs) per query.

    Attributes:
        queries_used: images the attacker asked for.
        attack_answered: its images that were answered.
        benign_answered: images of benign users that were answered.
        clone_accuracy: the clone on the held-out test set.
        clone_fidelity: how often the clone agrees with the undefended victim.
        victim_accuracy: the undefended victim on the test set.
        served_accuracy: the served answers of benign traffic against the labels.
        served_agreement: how often a served answer names the undefended victim's class.
        distortion_mean: mean distance on the in-distribution test set.
        distortion_p95: its 95th percentile.
        attack_macs_mean: mean compute of an attacker's query.
        benign_macs_mean: mean compute of a benign query.
        full_macs: compute of the whole network on one image.
        attack_compute_share: attack_macs_mean / full_macs.
        benign_compute_share: benign_macs_mean / full_macs.
        attack_seconds_mean: mean latency of an attacker's query.
        benign_seconds_mean: mean latency of a benign query.
        harden_seconds: what hardening the victim took; 0 where all that is trained came from the
            cache.
        query_digest: digest of all queries, for replay.
        answer_digest: digest of all answers, for replay.
        accounts_used: accounts that the attacker asked from; None where the scenario says nothing
            of accounts.
        attack_price: queries_used x threat.query_price + accounts_used x threat.account_price;
            None likewise.
        clone_metrics: what else a scenario measures of the clone, by the metric's name; None where
            it asks for nothing.
    """

    queries_used: int | None = metric("queries", "images", averaged=False)
    attack_answered: int | None = metric("answers to the attacker", "images", averaged=False)
    benign_answered: int | None = metric("answers to benign users", "images", averaged=False)
    clone_accuracy: float | None = metric(
        "clone accuracy", "share", heading="clone accuracy", short="clone acc. %"
    )
    clone_fidelity: float | None = metric(
        "clone fidelity", "share", heading="clone fidelity", short="fidelity %"
    )
    victim_accuracy: float | None = metric("victim accuracy", "share", heading="victim accuracy")
    served_accuracy: float | None = metric(
        "served accuracy", "share", heading="served accuracy", short="served acc. %"
    )
    served_agreement: float | None = metric("served agreement", "share")
    distortion_mean: float | None = metric("distortion", "l1", heading="distortion (L1)")
    distortion_p95: float | None = metric("distortion, 95th percentile", "l1", averaged=False)
    attack_compute_share: float | None = metric(
        "compute per attack query",
        "share",
        bounds=(0, float("inf")),
        heading="compute per attack query",
        short="attack MACs %",
    )
    benign_compute_share: float | None = metric(
        "compute per benign query",
        "share",
        bounds=(0, float("inf")),
        heading="compute per benign query",
        short="benign MACs %",
    )
    attack_macs_mean: float | None = metric("MACs per attack query", "macs")
    benign_macs_mean: float | None = metric("MACs per benign query", "macs")
    full_macs: int | None = metric("MACs of the whole network", "macs", averaged=False)
    attack_seconds_mean: float | None = metric(
        "time per attack query", "seconds", heading="time per attack query", reproduced=False
    )
    benign_seconds_mean: float | None = metric(
        "time per benign query", "seconds", heading="time per benign query", reproduced=False
    )
    harden_seconds: float | None = metric("hardening", "seconds", averaged=False, reproduced=False)
    query_digest: str | None = metric("digest of the queries", "digest", averaged=False)
    answer_digest: str | None = metric("digest of the answers", "digest", averaged=False)
    accounts_used: int | None = metric("accounts", "count", heading="accounts", short="accounts")
    attack_price: float | None = metric(
        "price of the attack", "price", heading="price of the attack", short="price"
    )
    clone_metrics: JsonMap | None = None


METRICS: Mapping[str, Metric] = metrics_of(OutcomeRow)
"""Every metric of an episode's outcome, by its column's name."""


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


Choice = str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFilter:
    """Say which episodes are meant. What is None does not narrow; a tuple means "one of these".

    Attributes:
        where: settings of the plan that it has, each a dotted path such as "threat.budget" and a
            value as text; "none" means that it has no such setting.
        id_prefix: beginning of the episode's id.
        since, until: started at this moment or later, before this moment; need a time zone.
        words: each stands in its id, its status, or the name of its scenario, of a player, a
            network or the data, in capital letters or small ones.
        within: another filter that it passes too; its order and limit do not count.
        limit: at most so many, the newest (or oldest) ones.
        offset: after leaving out so many.
        newest_first: order by start, descending.
        sort: another column of the episode to order by, the same way; rows without a value last.
    """

    scenario: Choice = None
    attacker: Choice = None
    defender: Choice = None
    status: Choice = None
    run: Choice = None
    kind: Choice = None
    plan_hash: Choice = None
    seed: int | None = None
    where: tuple[tuple[str, str], ...] = ()
    id_prefix: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    words: tuple[str, ...] = ()
    within: "EpisodeFilter | None" = None
    limit: int | None = None
    offset: int = 0
    newest_first: bool = True
    sort: str | None = None


def added_exits(*counts: Exits | None) -> Exits:
    """Add images per exit, defence by defence; a shorter list has none at the last exits."""
    by_defence = zip_longest(*(one or () for one in counts), fillvalue=())
    return tuple(tuple(map(sum, zip_longest(*rows, fillvalue=0))) for rows in by_defence)
