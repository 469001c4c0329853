"""Resolves a scenario into the plans of its episodes."""

import json
from collections.abc import Collection

from arena.isolation.describing import Said, described, is_apart, required
from arena.registry import players
from arena.registry.catalog import Catalog, Named
from arena.scenario import contents
from arena.scenario.plan import (
    AttackerPlan,
    DefencePlan,
    DefenderPlan,
    EpisodePlan,
    MetricPlan,
)
from arena.scenario.schema import AttackerSpec, DefenderSpec, ScenarioFile
from arena.scenario.schema_parts import DataSpec, Isolation
from arena.scenario.threat import ThreatSpec
from envs.errors import ArenaError, ScenarioError
from envs.loading.imports import short_name


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
    found: dict[str, str] = {}
    made = [attacker, *attacker.wrappers, *defender.defence]
    for params in (defender.policy, *(one.params for one in made)):
        named |= {_role(name): DataSpec(use=name) for name in contents.named_in(params)}
        found |= contents.code_in(params)
    for brought in defender.defence:
        named |= {_role(name): DataSpec(use=name) for name in _own_data(brought)}
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


def sources_of(plan: EpisodePlan, brought: DefencePlan) -> dict[str, str]:
    """Return the digests of the files of data sets that a defence names, by what they are to it."""
    roles = map(_role, (*contents.named_in(brought.params), *_own_data(brought)))
    return {role: plan.contents[role] for role in sorted(roles) if role in plan.contents}


def _role(data_set: str) -> str:
    return f"data set {short_name(data_set)}"


def _own_data(brought: DefencePlan) -> set[str]:
    """Name the data sets of others that a defence trains on."""
    names = contents.own_in(brought.params)
    if not names:
        return names
    try:
        defence = players.defences.create(brought.use, brought.params)
    except ArenaError:  # told by the check
        return set()
    return names.intersection(getattr(defence, "trained_on", ()))


def attacker_plan(spec: AttackerSpec | AttackerPlan, isolation: Isolation) -> AttackerPlan:
    """Resolve an attacker: parameters with defaults filled in, and digests of code."""
    if isolation == "process" and is_apart(said(spec), list(map(said, spec.wrappers))):
        told = described(said(spec), list(map(said, spec.wrappers)), name=spec.name)
        return AttackerPlan.model_validate(told)
    wrappers = [_made(players.wrappers, wrapper) for wrapper in spec.wrappers]
    return AttackerPlan.model_validate(
        {"name": spec.name, **_made(players.attackers, spec), "wrappers": wrappers}
    )


class EditedFiles(ScenarioError):  # noqa: N818 - a state of the disk, which may pass
    """Files are not those that a plan names any more."""


def require_unedited(plan: EpisodePlan, *, held: Collection[str] = ()) -> None:
    """Refuse files that are not those that the plan names any more.

    Args:
        plan: of the episode.
        held: what of its `contents` is in memory already, as it was then.

    Raises:
        EditedFiles: they were edited since the run began.
    """
    now = attacker_plan(plan.attacker, plan.isolation), defender_plan(plan.defender)
    before: tuple[AttackerPlan | DefenderPlan | MetricPlan, ...]
    before = plan.attacker, plan.defender, *plan.metrics
    for then, made in zip(before, (*now, *metric_plans(plan)), strict=True):
        if then != made:
            raise EditedFiles(
                f"the code of {then.name} was edited since the run began; the same command plays "
                f"what is there now"
            )
    read = contents_of(plan)
    for role in sorted((plan.contents.keys() | read.keys()).difference(held)):
        if plan.contents.get(role) != read.get(role):
            raise EditedFiles(
                f"the files of {_NAMES.get(role, role)} were edited since the run began; the same "
                f"command plays what is there now"
            )


_NAMES = {"data": "the data", "pool": "the pool", "ood": "traffic.ood", "victim": "the victim",
          "clone": "the clone"}  # fmt: skip


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


def metric_plans(scenario: ScenarioFile | EpisodePlan) -> tuple[MetricPlan, ...]:
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
