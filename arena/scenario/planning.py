"""The plan of one episode: everything that bears on its result, and the hash that names it."""

import hashlib
import json
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from arena.isolation.describing import Said, described, is_apart, required
from arena.registry import players
from arena.registry.catalog import Catalog, Named
from arena.scenario import contents
from arena.scenario.schema import AttackerSpec, DefenderSpec, ScenarioFile, TrafficSpec
from arena.scenario.schema_parts import (
    DataSpec,
    Isolation,
    Kept,
    Limit,
    NetSpec,
    Params,
    VictimDataSpec,
    VictimSpec,
)
from arena.scenario.settings import HOW_ASKED, HOW_PLAYED, ONLY_SHOWN
from arena.scenario.threat import ThreatSpec
from envs.loading.imports import is_class_use, is_file_use, is_model_file, short_name

# `Any` in this file: a plan as plain JSON values.

PATH_SOURCES = ("folder", "arrays", "hf-dataset")
"""Data sets whose path says where files lie, and nothing of what they hold."""

RULES = 4
"""Version of the rules; raised when the same plan would give another result."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class _Made(_Part):
    """Something that is built by name."""

    use: str
    """Registered name, or the absolute path of a file and the class in it."""
    params: Params = {}
    """Its parameters, defaults filled in."""
    code: str = ""
    """Digest of its source where it is not one of ours."""


class WrapperPlan(_Made):
    """What changes an attacker's queries and answers."""


class AttackerPlan(_Made):
    """Who attacks."""

    name: str
    wrappers: tuple[WrapperPlan, ...] = ()
    """What stands between it and the game's oracle, the first next to the game."""

    @model_serializer(mode="wrap")
    def _without_nothing(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `wrappers` out where there are none: it then bears on nothing."""
        table: dict[str, Any] = dump(self)
        if not self.wrappers:
            table.pop("wrappers", None)
        return table


class MetricPlan(_Made):
    """What else is measured of the final clone."""

    name: str


class DefencePlan(_Made):
    """What a defender brings."""


class DefenderPlan(_Part):
    """Who defends, and with what."""

    name: str
    use: str
    policy: Params = {}
    code: str = ""
    defence: tuple[DefencePlan, ...]


class EpisodePlan(_Part):
    """One episode, fully resolved.

    The names of the scenario and of the players are part of it: the log tells episodes apart so.
    The scenario's description and tags are not: they bear on nothing.
    """

    rules: int = RULES
    scenario: str = ""
    """Name of the scenario."""
    seed: int
    data: VictimDataSpec
    victim: VictimSpec
    clone: NetSpec
    threat: ThreatSpec
    latency: Params = {}
    traffic: TrafficSpec
    attacker: AttackerPlan
    defender: DefenderPlan
    checkpoints: int
    record: str = "digests"
    keep: tuple[Kept, ...] = ()
    """What of the attacker's is stored beside the log."""
    metrics: tuple[MetricPlan, ...] = ()
    """What else is measured of the final clone."""
    contents: dict[str, str] = {}
    """Digests of the files that are read, where a name does not fix what they hold."""
    isolation: Isolation = "none"
    """How the attacker is played; like the limits, it bears on no result."""
    time_limit: Limit | None = None
    memory_limit: Limit | None = None
    after: str = ""
    """Hash of the episode this one's defender learnt from; "" where it learns from none."""
    carried_state: Params = {}
    """What it learnt there, once that is played. The hash leaves it out: `after` decides it."""

    @model_serializer(mode="wrap")
    def _without_usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out how it is played and what is kept where that is as usual."""
        table: dict[str, Any] = dump(self)
        for name in HOW_PLAYED:
            if table.get(name) == type(self).model_fields[name].default:
                table.pop(name, None)
        for name in ("keep", "metrics"):
            if not getattr(self, name):
                table.pop(name, None)
        return table

    @property
    def title(self) -> str:
        """Name the episode for people: "dfme vs dnf, seed 0"."""
        return f"{self.attacker.name} vs {self.defender.name}, seed {self.seed}"

    @property
    def victim_seed(self) -> int:
        """The seed of the victim's training: its own, or else the episode's."""
        return self.seed if self.victim.seed is None else self.victim.seed

    @cached_property
    def hash(self) -> str:
        """16 hexadecimal digits that change if, and only if, the result may change."""
        plan = _canonical(self.model_dump(mode="json"))
        plan["victim"]["seed"] = self.victim_seed
        for network in (plan["victim"], plan["clone"]):  # `contents` stands for its files
            network.pop("weights", None)
            if is_file_use(network["use"]):
                network["use"] = short_name(network["use"])
            elif is_model_file(network["use"]):
                network["use"] = "file"
        for name in (*HOW_ASKED, *ONLY_SHOWN):
            plan["victim"].pop(name, None)
        for name in ("carried_state", *HOW_PLAYED):
            plan.pop(name, None)
        for optional in ("after", "contents"):
            if not plan[optional]:
                del plan[optional]
        text = json.dumps(plan, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _canonical(value: Any) -> Any:
    """Drop what says only where files lie; `code` and `contents` stand for them."""
    if isinstance(value, list):
        return [_canonical(item) for item in value]
    if not isinstance(value, dict):
        return value
    table = {key: _canonical(item) for key, item in value.items() if key != "download"}
    if table.get("code") and (is_file_use(table["use"]) or is_class_use(table["use"])):
        table["use"] = short_name(table["use"])
    if "root" in table:
        del table["root"]
        if table["use"] in PATH_SOURCES:
            table["params"] = {k: v for k, v in table["params"].items() if k != "path"}
        if is_file_use(table["use"]):
            table["use"] = short_name(table["use"])
    return table


def plans_of(scenario: ScenarioFile) -> list[EpisodePlan]:
    """Resolve the episodes of a scenario: attackers x defenders x seeds, the seeds innermost."""
    digests: dict[str, str] = {}  # every file is looked at once
    attackers = {spec.name: attacker_plan(spec, scenario.isolation) for spec in scenario.attackers}
    defenders = {spec.name: defender_plan(spec) for spec in scenario.defenders}
    metrics = metric_plans(scenario)
    plans: list[EpisodePlan] = []
    for spec, opponent in scenario.pairs:
        attacker, defender = attackers[spec.name], defenders[opponent.name]
        threat = scenario.threat
        if spec.pool is not None:
            threat = threat.model_copy(update={"pool": spec.pool})
        known = _contents(scenario, threat, attacker, defender, digests)
        series = [
            _plan(scenario, threat, attacker, defender, seed=seed, read=known, metrics=metrics)
            for seed in scenario.seeds
        ]
        plans += _chained(series) if players.learns_between_episodes(defender.use) else series
    return plans


def _chained(series: list[EpisodePlan]) -> list[EpisodePlan]:
    """Let each episode follow the one before: the seeds in their order are one life."""
    chain: list[EpisodePlan] = []
    for plan in series:
        after = chain[-1].hash if chain else ""
        chain.append(plan.model_copy(update={"after": after}))
    return chain


def _plan(
    scenario: ScenarioFile,
    threat: ThreatSpec,
    attacker: AttackerPlan,
    defender: DefenderPlan,
    *,
    seed: int,
    read: dict[str, str],
    metrics: tuple[MetricPlan, ...],
) -> EpisodePlan:
    return EpisodePlan(
        scenario=scenario.name,
        seed=seed,
        data=scenario.data,
        victim=scenario.victim,
        clone=scenario.clone,
        threat=threat,
        latency=scenario.latency,
        traffic=scenario.traffic,
        attacker=attacker,
        defender=defender,
        checkpoints=scenario.checkpoints,
        record=scenario.record,
        keep=scenario.keep,
        metrics=metrics,
        contents=read,
        isolation=scenario.isolation,
        time_limit=scenario.time_limit,
        memory_limit=scenario.memory_limit,
    )


def contents_of(plan: EpisodePlan) -> dict[str, str]:
    """Digest the files that a plan reads, as they are now; see `EpisodePlan.contents`."""
    return _contents(plan, plan.threat, plan.attacker, plan.defender, {})


def _contents(
    played: ScenarioFile | EpisodePlan,
    threat: ThreatSpec,
    attacker: AttackerPlan,
    defender: DefenderPlan,
    digests: dict[str, str],
) -> dict[str, str]:
    """Digest the files that are read, by what they are to the episode."""
    named = {"data": played.data, "pool": threat.pool, "ood": played.traffic.ood}
    made = [attacker, *attacker.wrappers, *defender.defence]
    for params in (defender.policy, *(one.params for one in made)):
        named |= {f"data set {name}": DataSpec(use=name) for name in contents.named_in(params)}
    found: dict[str, str] = {}
    for role, data in named.items():
        if data is not None:
            key = data.model_dump_json()
            if key not in digests:
                digests[key] = contents.of_data(data)
            found[role] = digests[key]
    for role, net in (("victim", played.victim), ("clone", played.clone)):
        # a network is laid out to learn what it starts from
        key = json.dumps(["network", net.use, net.params, str(net.weights)], sort_keys=True)
        if key not in digests:
            digests[key] = contents.of_network(net)
        found[role] = digests[key]
    return {role: digest for role, digest in found.items() if digest}


def attacker_plan(spec: AttackerSpec | AttackerPlan, isolation: Isolation) -> AttackerPlan:
    """Resolve an attacker: parameters with defaults filled in, and digests of code."""
    if isolation == "process" and is_apart(said(spec), list(map(said, spec.wrappers))):
        told = described(said(spec), list(map(said, spec.wrappers)), name=spec.name)
        return AttackerPlan.model_validate(told)
    wrappers = [_made(players.wrappers, wrapper) for wrapper in spec.wrappers]
    return AttackerPlan.model_validate(
        {"name": spec.name, **_made(players.attackers, spec), "wrappers": wrappers}
    )


def requirements(plan: EpisodePlan) -> frozenset[str]:
    """Return what an attacker needs of the threat model; code of others tells it elsewhere."""
    spec = plan.attacker
    wrappers = list(map(said, spec.wrappers))
    if is_apart(said(spec), wrappers):
        return required(said(spec), wrappers, name=spec.name)
    return players.create_attacker(spec, spec.wrappers).requires


def said(spec: Named) -> Said:
    """Return what a scenario says of a player, without anything else."""
    return Said(spec.use, dict(spec.params))


def _made(names: Catalog, spec: Named) -> dict[str, object]:
    params, code = names.resolve(spec.use, spec.params)
    return {"use": spec.use, "params": params, "code": code}


def metric_plans(scenario: ScenarioFile) -> tuple[MetricPlan, ...]:
    """Resolve the metrics likewise."""
    return tuple(
        MetricPlan.model_validate({"name": spec.name, **_made(players.metrics, spec)})
        for spec in scenario.metrics
    )


def defender_plan(spec: DefenderSpec | DefenderPlan) -> DefenderPlan:
    """Resolve a defender likewise."""
    policy, code = players.defenders.resolve(spec.use, spec.policy)
    return DefenderPlan.model_validate(
        {
            "name": spec.name,
            "use": spec.use,
            "policy": policy,
            "code": code,
            "defence": [_made(players.defences, entry) for entry in spec.defence],
        }
    )
