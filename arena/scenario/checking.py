"""Checks what a scenario names against what exists; imports torch, which reading does not."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from arena.isolation.describing import Grants, described, is_apart
from arena.isolation.launch import require_linux
from arena.registry import messages, players
from arena.registry.messages import dotted
from arena.registry.parameters import validate_as, validated
from arena.scenario import networks
from arena.scenario.planning import said
from arena.scenario.pool_checking import check_place, check_pool, check_unseen, forget_counts
from arena.scenario.schema import AttackerSpec, DefenceSpec, DefenderSpec, ScenarioFile
from arena.scenario.schema_parts import DataSpec, NetSpec, VictimSpec
from envs.errors import ArenaError, ScenarioError, UnknownName, one_line
from envs.loading.imports import from_file, is_file_use, is_model_file

# `Any` in this file: parameters as a scenario gives them.

if TYPE_CHECKING:
    from envs.data.catalog import Form
    from envs.nets.staged import Staged


def check(points: Sequence[ScenarioFile]) -> None:
    """Check every name and every parameter of a scenario at its points.

    Raises:
        ScenarioError: one line for each problem of the first point that has any.
    """
    from envs.data.own import forget

    forget()  # what was read for an earlier scenario
    forget_counts()
    for point in points:
        faults = [fault for trial in _trials(point) for fault in _faults(trial)]
        if faults:
            raise ScenarioError("\n".join(dict.fromkeys(faults)))


_MOST_WEIGHTS = 5_000_000_000
"""Of a network; the largest registered one has 305 million."""

Trial = tuple[messages.Path, Callable[[], object]]


def _trials(scenario: ScenarioFile) -> Iterator[Trial]:
    """List what to try, each with its path for a message that names none."""
    yield ("data",), partial(_check_data, scenario.data)
    lent: list[tuple[messages.Path, DataSpec | None]] = [
        (("threat", "pool"), scenario.threat.pool),
        *((("attackers", one.name, "pool"), one.pool) for one in scenario.attackers),
    ]
    for path, pool in [*lent, (("traffic", "ood"), scenario.traffic.ood)]:
        if pool is not None:
            yield path, partial(check_pool, pool, path, scenario.data)
            if path == ("traffic", "ood") or not scenario.threat.allow_test_overlap:
                yield path, partial(check_unseen, scenario.data, pool, path)
    form = cache(partial(_form_of, scenario.data))  # a folder is listed once for both networks
    if not scenario.victim.is_remote:
        yield ("victim",), partial(_check_net, scenario.victim, "victim", form)
    elif is_file_use(scenario.victim.use):
        yield ("victim",), partial(from_file, scenario.victim.use)
    yield ("victim", "class_names"), partial(_check_names, scenario.victim.class_names, form)
    yield ("clone",), partial(_check_net, scenario.clone, "clone", form)
    victim = cache(partial(_victim_of, scenario.victim, form))
    yield ("victim", "recipe"), partial(_check_recipe, scenario.victim.recipe)
    yield ("latency",), partial(_check_latency, scenario.latency)
    for number, metric in enumerate(scenario.metrics):
        place: messages.Path = ("metrics", number)
        yield place, partial(players.metrics.check, metric.use, metric.params, (*place, "params"))
    for attacker in scenario.attackers:
        yield ("attackers", attacker.name), partial(_check_attacker, attacker, scenario)
    for defender in scenario.defenders:
        yield (
            ("defenders", defender.name),
            partial(_check_defender, defender, victim, form, is_remote=scenario.victim.is_remote),
        )


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
    from envs.data import own, sources

    info = sources.describe(data.use)
    if not info.playable:
        playable = [name for name in sources.names() if sources.describe(name).playable]
        raise ScenarioError(
            f"'{data.use}' has no labels to learn, it can only be a surrogate pool; "
            f"expected one of {', '.join(playable)}"
        )
    hints = {name: info.hints[name] for name in info.options}
    validate_as(hints, data.params, prefix=("data", "params"))
    if own.is_own(data.use):
        params: dict[str, Any] = dict(data.params)
        sources.load(data.use, root=data.root, **params)
    if data.params.get("validation") == 0:
        raise ScenarioError(
            "data.params.validation: expected at least 1 image to set thresholds on"
        )
    check_place(data)


def _form_of(data: DataSpec) -> "Form | None":
    """Return the form of the images; None where it is unknown, or told of as a fault already."""
    from envs.data import sources

    if _faults((("data",), partial(_check_data, data))):
        return None
    return sources.form_of(data.use, root=data.root, **data.params)


def _check_net(net: NetSpec, where: str, form: "Callable[[], Form | None]") -> None:
    """Check a network's parameters, and whether it fits the images of the data."""
    from envs.nets import registry

    if where == "clone" and is_model_file(net.use):
        raise ScenarioError(f"'{net.use}' cannot learn; expected a network by its code or name")
    is_own = registry.is_own(net.use)
    if is_own:
        registry.code_digest(net.use)  # tells of code that cannot be imported
    else:
        validate_as(registry.hints(net.use), net.params, prefix=(where, "params"))
    found = form()
    if found is None:
        return
    if not is_own:
        weights = _weights(net.use, *found, json.dumps(net.params))
        if weights > _MOST_WEIGHTS:
            raise ScenarioError(f"expected at most {_MOST_WEIGHTS:.0e} weights, got {weights:.1e}")
    if networks.is_other(net):
        networks.built(net, found)


def _check_names(names: tuple[str, ...], form: "Callable[[], Form | None]") -> None:
    if names and (found := form()) is not None and len(names) != found[1]:
        raise ScenarioError(
            f"expected a name for each of the {found[1]} classes of the data, got {len(names)}"
        )


def _victim_of(victim: VictimSpec, form: "Callable[[], Form | None]") -> "Staged | None":
    """Build a victim of others, to see what defences find; None of ours, or of a faulty one."""
    if victim.is_remote or not networks.is_other(victim) or (found := form()) is None:
        return None
    try:
        return networks.built(victim, found)
    except ArenaError:  # told of as a fault already
        return None


@cache  # networks of many layers take a second, and scenarios come in families
def _weights(use: str, image_shape: tuple[int, int, int], classes: int, params: str) -> int:
    """Count the weights of a network for such images, by laying it out without any."""
    from envs.nets import registry

    try:
        layout = registry.outline(
            use, num_classes=classes, image_shape=image_shape, **json.loads(params)
        )
    except (TypeError, ValueError, RuntimeError) as error:  # of torch and other libraries
        raise ScenarioError(
            f"'{use}' does not fit {classes} classes of {image_shape} images: {one_line(error)}"
        ) from error
    return sum(parameter.numel() for parameter in layout.parameters())


def _check_recipe(recipe: Mapping[str, object]) -> None:
    from envs.training.recipes import Recipe, recipe_of

    own = {key: value for key, value in recipe.items() if key != "use"}
    values = validated(Recipe, own, prefix=("victim", "recipe"))
    if "use" in recipe:
        if not isinstance(recipe["use"], str):
            raise ScenarioError(
                f"victim.recipe.use: expected the name of a recipe, got {recipe['use']!r}"
            )
        recipe_of({"use": recipe["use"], **values}, (3, 32, 32))
    else:
        # a schedule may need a warm-up, which the recipe that the data bring may have
        Recipe(**{"warmup": 0.1, **values})
    if values.get("epochs") == 0:
        raise ScenarioError("epochs: expected at least 1, because 0 leaves the victim untrained")


def _check_latency(latency: Mapping[str, object]) -> None:
    from envs.latency.model import make_channel

    make_channel(**validated(make_channel, latency, prefix=("latency",)))


def _check_attacker(spec: AttackerSpec, scenario: ScenarioFile) -> None:
    from agents.base import granted

    path = ("attackers", spec.name)
    threat = scenario.threat
    grants = Grants(
        labels=threat.labels,
        latency_visible=threat.latency != "none",
        pool=(spec.pool or threat.pool) is not None,
    )
    if scenario.isolation == "process":
        require_linux()
        wrappers = list(map(said, spec.wrappers))
        if is_apart(said(spec), wrappers):
            described(said(spec), wrappers, name=spec.name, grants=grants)
            return
    attacker = players.create_attacker(spec, spec.wrappers, prefix=path)
    granted(attacker, **grants._asdict())


def _check_defender(
    spec: DefenderSpec,
    victim: "Callable[[], Staged | None]",
    form: "Callable[[], Form | None]",
    *,
    is_remote: bool,
) -> None:
    where = ("defenders", spec.name)
    policy = (*where, "policy")
    faults = _faults((where, partial(players.defenders.check, spec.use, spec.policy, policy)))
    several = len(spec.defence) > 1
    for number, defence in enumerate(spec.defence):
        place: messages.Path = (*where, "defence", number) if several else where
        params: messages.Path = (*place, "params")
        check = partial(_check_defence, defence, params, victim, form, is_remote=is_remote)
        faults += _faults((place, check))
    if faults:
        raise ScenarioError("\n".join(faults))


def _check_defence(
    spec: DefenceSpec,
    params: messages.Path,
    victim: "Callable[[], Staged | None]",
    form: "Callable[[], Form | None]",
    *,
    is_remote: bool,
) -> None:
    from envs.defences.base import Defence, require_answers_only
    from envs.defences.needs import require_needs

    defence = players.defences.check(spec.use, spec.params, params)
    if not isinstance(defence, Defence):
        return
    if is_remote:
        require_answers_only(defence, spec.use)
    if (network := victim()) is not None:
        require_needs(defence.needs, spec.use, network)
    for name in defence.trained_on:
        _check_source(name)
    if (found := form()) is not None:
        defence.check_images(found[0])


def _check_source(name: str) -> None:
    """Refuse the name of images that a defence trains on where nothing is called so."""
    from envs.data import sources
    from envs.training.ood_sources import SOURCES

    if name in SOURCES:
        return
    try:
        sources.describe(name)
    except UnknownName:
        known = [*SOURCES, *sources.names()]
        raise UnknownName("source of images", name, known) from None
