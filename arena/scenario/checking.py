"""Checks what a scenario names against what exists; imports torch, which reading does not."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from arena.registry import players as catalog
from arena.registry.messages import Path, dotted
from arena.registry.parameters import validated, validated_by_defaults
from arena.scenario.schema import AttackerSpec, DataSpec, DefenderSpec, NetSpec, ScenarioFile
from envs.errors import ArenaError, ScenarioError, one_line


def check(scenario: ScenarioFile) -> None:
    """Check every name and every parameter.

    Raises:
        ScenarioError: one line for each problem.
    """
    faults = [fault for trial in _trials(scenario) for fault in _faults(trial)]
    if faults:
        raise ScenarioError("\n".join(dict.fromkeys(faults)))


Trial = tuple[Path, Callable[[], object]]


def _trials(scenario: ScenarioFile) -> Iterator[Trial]:
    """List what to try, each with its path for a message that names none."""
    yield ("data",), partial(_check_data, scenario.data)
    pools: list[tuple[Path, DataSpec | None]] = [
        (("threat", "pool"), scenario.threat.pool),
        (("traffic", "ood"), scenario.traffic.ood),
        *((("attackers", one.name, "pool"), one.pool) for one in scenario.attackers),
    ]
    for path, pool in pools:
        if pool is not None:
            yield path, partial(_check_pool, pool, path)
    yield ("victim",), partial(_check_net, scenario.victim, "victim")
    yield ("victim", "recipe"), partial(_check_recipe, scenario.victim.recipe)
    yield ("clone",), partial(_check_net, scenario.clone, "clone")
    yield ("latency",), partial(_check_latency, scenario.latency)
    for attacker in scenario.attackers:
        yield ("attackers", attacker.name), partial(_check_attacker, attacker, scenario)
    for defender in scenario.defenders:
        yield ("defenders", defender.name), partial(_check_defender, defender)


def _faults(trial: Trial) -> list[str]:
    path, attempt = trial
    try:
        attempt()
    except ArenaError as error:
        where = dotted(path)
        return [
            line if line.startswith((f"{where}.", f"{where}:")) else f"{where}: {line}"
            for line in str(error).splitlines()
        ]
    except (SystemExit, GeneratorExit) as error:  # of a player's constructor
        return [f"{dotted(path)}: {one_line(error)}"]
    return []


def _check_data(data: DataSpec) -> None:
    from envs.data import sources

    info = sources.describe(data.use)
    if not info.playable:
        playable = [name for name in sources.names() if sources.describe(name).playable]
        raise ScenarioError(
            f"'{data.use}' has no labels to learn, it can only be a surrogate pool; "
            f"expected one of {', '.join(playable)}"
        )
    validated_by_defaults(
        info.options, data.params, choices=info.choices, prefix=("data", "params")
    )


def _check_pool(pool: DataSpec, path: Path) -> None:
    from envs.data import sources

    info = sources.describe(pool.use)
    options = {**info.pool_options, "count": 0}
    validated_by_defaults(options, pool.params, choices=info.choices, prefix=(*path, "params"))


def _check_net(net: NetSpec, where: str) -> None:
    from envs.nets import registry

    validated_by_defaults(registry.parameters(net.use), net.params, prefix=(where, "params"))


def _check_recipe(recipe: Mapping[str, object]) -> None:
    from envs.training.recipes import Recipe

    values = validated(Recipe, recipe, prefix=("victim", "recipe"))
    # a schedule may need a warm-up, which the recipe that the data bring may have
    Recipe(**{"warmup": 0.1, **values})


def _check_latency(latency: Mapping[str, object]) -> None:
    from envs.errors import UnknownName
    from envs.latency.model import NETWORKS, make_model

    options = dict(latency)
    network = options.pop("network", None)
    if network is not None and network not in NETWORKS:
        raise UnknownName("network preset", str(network), NETWORKS)
    make_model(**validated(make_model, options, prefix=("latency",)))


def _check_attacker(spec: AttackerSpec, scenario: ScenarioFile) -> None:
    from agents.base import granted

    path = ("attackers", spec.name)
    attacker = catalog.create_attacker(spec, spec.wrappers, prefix=path)
    threat = scenario.threat
    granted(
        attacker,
        labels=threat.labels,
        latency_visible=threat.latency != "none",
        pool=(spec.pool or threat.pool) is not None,
    )


def _check_defender(spec: DefenderSpec) -> None:
    where = ("defenders", spec.name)
    policy = (*where, "policy")
    faults = _faults((where, partial(catalog.defenders.check, spec.use, spec.policy, policy)))
    several = len(spec.defence) > 1
    for number, defence in enumerate(spec.defence):
        place: Path = (*where, "defence", number) if several else where
        params: Path = (*place, "params")
        faults += _faults(
            (place, partial(catalog.defences.check, defence.use, defence.params, params))
        )
    if faults:
        raise ScenarioError("\n".join(faults))
