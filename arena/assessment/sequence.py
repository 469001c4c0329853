"""Chooses the attacks of an assessment: fixed, without parameters, by the threat model alone.

In the spirit of AutoAttack (Croce and Hein 2020, arXiv:2003.01690): attacks that a defence's author
chose and tuned say little of what others reach.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from arena.analysis.effects import CONTROL
from arena.registry import players
from arena.scenario import Scenario
from arena.scenario.given import scenario_of
from arena.scenario.pools import part_of_victims_data
from arena.scenario.schema import AttackerSpec, DefenderSpec
from envs.errors import PlayerError, ScenarioError

# `Any` in this file: tables as TOML gives them.

Role = Literal["probe", "control", "data-free", "pool"]
"""What an attack stands for: it only looks, it is the floor, it makes its images, it owns them."""

NAME = "assess-"
"""Begins the name of an assessed scenario."""

_RESTORED = {"randp": "epsilon", "p-poison": "epsilon", "reverse-sigmoid": "beta"}
"""Defences that an attacker can simulate, and the parameter that says how strongly they disturb."""

_SIMULATED = {"variant": ("target",), "oracle": ("extreme", "argmin", "random"), "gamma": (0.2,)}
"""Settings of these defences that their simulations stand for; others have no restorer."""

_REPEATS = {"use": "averaging", "params": {"duplicates": "jitter"}}
"""Averages noise that is new at each query, and noise that is a function of the image."""

_FEW_ROUNDS = {"strategy": "k-center", "choices": 2, "round_epochs": 30}
"""The published rounds take twenty times as long as all else in the sequence."""


@dataclass(frozen=True)
class Attack:
    """One attack of the sequence.

    Attributes:
        name: as the scoreboard shows it.
        role: see `Role`.
        asks: what it is there to find out.
        plain: the attack that it changes in one respect; "" where it is a plain one itself.
        table: of the scenario file, without the name.
    """

    name: str
    role: Role
    asks: str
    plain: str = ""
    table: Mapping[str, Any] = field(default_factory=dict)

    @property
    def extracts(self) -> bool:
        """Whether it is there to copy the victim."""
        return self.role in ("data-free", "pool")


class LeftOut(NamedTuple):
    """An attack that the threat model does not admit, and why."""

    name: str
    reason: str


class Chosen(NamedTuple):
    """The attacks that are played, in their order, and those that are not."""

    attacks: tuple[Attack, ...]
    left_out: tuple[LeftOut, ...]


def chosen(scenario: Scenario) -> Chosen:
    """Choose the attacks for a scenario's threat model; its own attackers do not count."""
    attacks, left_out = [], []
    for attack in _candidates(scenario):
        reason = _refused(attack, scenario)
        if reason:
            left_out.append(LeftOut(attack.name, reason))
        else:
            attacks.append(attack)
    return Chosen(tuple(attacks), tuple(left_out))


def assessed_scenario(scenario: Scenario, attacks: Sequence[Attack], budget: int) -> Scenario:
    """Return the scenario with the chosen attacks, the control beside its defenders, and a budget.

    Raises:
        ScenarioError, UnknownName: it cannot be played so.
    """
    defenders = [one.model_dump(mode="json", exclude_unset=True) for one in scenario.defenders]
    if not any(one.name == CONTROL for one in scenario.defenders):
        defenders.insert(0, {"name": CONTROL, "defence": CONTROL})
    return scenario_of(
        scenario,
        [{**attack.table, "name": attack.name} for attack in attacks],
        defenders,
        None,
        {"threat.budget": budget, "name": NAME + scenario.name},
        apart=False,
    )


def _candidates(scenario: Scenario) -> Iterator[Attack]:
    soft, pool = scenario.threat.labels == "soft", scenario.threat.pool is not None
    yield Attack("repeats", "probe", "Does an answer depend on the image alone?",
                 table={"use": "repeats"})  # fmt: skip
    yield Attack("exit-timing", "probe", "What do response times tell of the network?",
                 table={"use": "exit-timing"})  # fmt: skip
    yield Attack("noise", "control", "What is learnt from answers to noise?",
                 table={"use": "noise"})  # fmt: skip
    free = "dfme" if soft else "dfms-hl"
    yield Attack(free, "data-free", "What does an attacker without images reach?",
                 table={"use": free})  # fmt: skip
    yield Attack("knockoff", "pool", "What do images of the attacker's own teach?",
                 table={"use": "knockoff"})  # fmt: skip
    if soft:
        yield Attack("knockoff-argmax", "pool", "Is the top label worth more than the answer?",
                     "knockoff", {"use": "knockoff", "params": {"answers": "argmax"}})  # fmt: skip
    yield Attack("active-thief", "pool", "What do chosen images teach?",
                 table={"use": "active-thief", "params": _FEW_ROUNDS})  # fmt: skip
    for by, asks in (("confidence", "Are sure answers worth dropping?"),
                     ("latency", "Are quick answers worth dropping?")):  # fmt: skip
        if pool:
            yield Attack(f"late-by-{by}", "pool", asks, "knockoff",
                         {"use": "late-knockoff", "params": {"by": by}})  # fmt: skip
        else:
            yield Attack(f"{by}-filter", "data-free", asks, free, {"use": f"{by}-filter"})
    plain = "knockoff" if pool else free
    role: Role = "pool" if pool else "data-free"
    yield Attack("averaging", role, "Do several answers to each image tell more?", plain,
                 {"use": plain, "wrappers": [_REPEATS]})  # fmt: skip
    yield Attack("inversion", role, "Are answers systematically wrong?", plain,
                 {"use": plain, "wrappers": ["inversion"]})  # fmt: skip
    for defender in scenario.defenders:
        for restored in _restorations(defender):
            yield Attack(f"restored-{defender.name}", role,
                         f"What is left of {defender.name}'s perturbation?", plain,
                         {"use": plain, "wrappers": [restored],
                          "against": [defender.name]})  # fmt: skip


def _restorations(defender: DefenderSpec) -> Iterator[Mapping[str, Any]]:
    """Give the restorer that knows a defender's perturbation, if one is known."""
    if len(defender.defence) != 1:
        return
    (defence,) = defender.defence
    knob = _RESTORED.get(defence.use)
    if knob is None or defender.use != "static":
        return
    built = players.defences.create(defence.use, defence.params)
    if all(getattr(built, name, these[0]) in these for name, these in _SIMULATED.items()):
        known = {"defence": defence.use, "clean": "dirichlet",
                 "preserves_top1": getattr(built, "preserve_top1", "off") == "on",
                 "strength": defender.policy.get("strength", 1) * getattr(built, knob)}  # fmt: skip
        yield {"use": "d-dae", "params": known}


def _refused(attack: Attack, scenario: Scenario) -> str:
    """Say why the threat model does not admit an attack; "" where it does."""
    from agents.base import granted

    threat = scenario.threat
    pool = threat.pool
    if "inversion" in attack.table.get("wrappers", ()) and (
        pool is None or part_of_victims_data(scenario.data, pool) is None
    ):
        return "its labelled images have to be of the victim's classes; threat.pool holds none"
    try:
        spec = AttackerSpec.model_validate({**attack.table, "name": attack.name})
        granted(
            players.create_attacker(spec, spec.wrappers),
            labels=threat.labels,
            latency_visible=threat.latency != "none",
            pool=pool is not None,
        )
    except (PlayerError, ScenarioError) as error:
        return str(error)
    return ""
