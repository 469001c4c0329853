"""What a scenario file may say. Frozen, and nothing else is accepted."""

import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from arena.log.rows import EpisodeRow
from arena.registry.messages import MESSAGE
from arena.registry.strict_types import NUMBER, WHOLE
from arena.scenario.schema_parts import (
    DataSpec,
    Isolation,
    Kept,
    Limit,
    Name,
    Named,
    NetSpec,
    Params,
    Seed,
    Table,
    VictimDataSpec,
    VictimSpec,
)
from arena.scenario.sweep_spec import SweepSpec, refuse_unmeasured
from arena.scenario.threat import ThreatSpec, refuse_short_accounts
from envs.loading.imports import short_name

# `Any` in this file: tables as TOML gives them, before they are validated.

VERSION = 1
"""The version of scenario files that this program reads."""

_TAKEN = {one.name for one in fields(EpisodeRow)} | {
    "utility_loss", "compute_share", "scenario", "setting", "seeds", "n", "attacker_variant",
    "defender_variant",
}  # fmt: skip
"""Names that the log and the rows of a scoreboard have for something else."""

MOST_EPISODES = 100_000
"""Of one scenario; a larger question is played in parts."""


class TrafficSpec(Table):
    """Benign users beside the attacker."""

    benign: Annotated[float, Field(ge=0, lt=1), NUMBER] = 0.0
    """Share of benign images among all that are asked."""
    ood_share: Annotated[float, Field(ge=0, le=1), NUMBER] = 0.0
    """Share of benign images that are out of distribution."""
    ood: DataSpec | None = None
    """Where those come from."""
    clients: Annotated[int, Field(ge=1, le=1_000_000), WHOLE] = 1
    """Benign clients that take turns."""


class WrapperSpec(Named):
    """One oracle wrapper of an attacker."""


class AttackerSpec(Table):
    """One attacker of the scenario."""

    use: str
    """Registered name, or path/to/file.py:Class."""
    name: Name
    """How scoreboard and log call it; `use` and its wrappers where absent."""
    params: Params = Field({})
    """Its parameters, by name."""
    wrappers: tuple[WrapperSpec, ...] = ()
    """What stands between it and the game's oracle, the first next to the game."""
    pool: DataSpec | None = None
    """Images it owns, instead of those of threat.pool."""
    against: tuple[Name, ...] = ()
    """Names of the defenders it meets; all of them where absent."""
    spares: tuple[Name, ...] = ()
    """Names of defenders it does not meet."""

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, value: Any) -> Any:
        if not isinstance(value, Mapping) or not isinstance(value.get("use"), str):
            return value
        wrappers = value.get("wrappers")
        uses = [value["use"], *_uses(wrappers if isinstance(wrappers, list | tuple) else ())]
        return {"name": "+".join(map(short_name, uses)), **value}


def _uses(entries: Iterable[Any]) -> list[str]:
    """Return what a list of names, or of tables with `use`, names."""
    uses = (entry.get("use") if isinstance(entry, Mapping) else entry for entry in entries)
    return [use for use in uses if isinstance(use, str)]


class MetricSpec(Named):
    """One more measure of each final clone."""

    name: Name
    """How tables, comparisons and the log call it; `use` where absent."""

    @model_validator(mode="before")
    @classmethod
    def _default_name(cls, value: Any) -> Any:
        table = {"use": value} if isinstance(value, str) else value
        if not isinstance(table, Mapping) or not isinstance(table.get("use"), str):
            return table
        return {"name": short_name(table["use"]), **table}


class DefenceSpec(Named):
    """One defence a defender brings."""


def _deployed_defences(value: Any) -> Any:
    """Turn the ways to write a defence into a list of tables."""
    if isinstance(value, str):
        return [{"use": "undefended" if value == "none" else value}]
    return value


Defences = Annotated[
    tuple[DefenceSpec, ...],
    Field(min_length=1),
    BeforeValidator(_deployed_defences, json_schema_input_type=str | tuple[DefenceSpec, ...]),
]


class DefenderSpec(Table):
    """One defender of the scenario."""

    use: str = "static"
    """Who decides how each request is answered: a registered name or path/to/file.py:Class."""
    name: Name
    """How scoreboard and log call it; the defences' names where absent."""
    policy: Params = Field({})
    """The defender's own parameters."""
    defence: Defences
    """What it brings: one defence, or a list in the order of the game's deployed defences."""

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        table = dict(value)
        defence = table.setdefault("defence", "undefended")
        if "params" in table:
            if not isinstance(defence, str):
                raise PydanticCustomError(
                    MESSAGE, "params belong to one defence; write them inside each of the list"
                )
            table["defence"] = _deployed_defences(defence)
            table["defence"][0]["params"] = table.pop("params")
        table.setdefault("name", _defender_name(table))
        return table


def _defender_name(table: Mapping[str, Any]) -> object:
    """Name a defender after what it brings, or after itself where it does more than bring it."""
    use, deployed_defences = table.get("use", "static"), _deployed_defences(table["defence"])
    if use != "static" or not isinstance(deployed_defences, list):
        return short_name(use) if isinstance(use, str) else "defender"
    return "+".join(map(short_name, _uses(deployed_defences))) or "defender"


def _draw_seed() -> tuple[int, ...]:
    return (secrets.randbelow(2**31),)


class ScenarioFile(Table):
    """One question to the arena: every attacker against every defender with every seed.

    An attacker that names defenders in `against` meets those alone, and none of `spares`.
    """

    version: Literal[1]
    """Version of the file's format."""
    name: Name
    """Name of the scenario; the file's name where absent."""
    description: str = ""
    """The question this scenario asks."""
    tags: tuple[str, ...] = ()
    """Whatever helps to find it again."""
    data: VictimDataSpec
    """What the victim is trained on and the clone is measured with."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MOST_EPISODES)] = Field(
        default_factory=_draw_seed
    )
    """One episode of every pairing for each; one is drawn where absent."""
    checkpoints: Annotated[int, Field(ge=1, le=100_000), WHOLE] = 10
    """Measurements along the budget."""
    record: Literal["digests", "queries"] = "digests"
    """What the log keeps of the queries."""
    keep: tuple[Kept, ...] = ()
    """"clone" stores each episode's clone beside the log; see `arena episodes clone`."""
    metrics: tuple[MetricSpec, ...] = ()
    """What else is measured of each final clone, beside accuracy and fidelity."""
    isolation: Isolation = "none"
    """"process" plays each attacker in a process of its own; see docs/promises.md."""
    time_limit: Limit | None = None
    """Seconds that an attack may take; an episode that takes longer ends as an error."""
    memory_limit: Limit | None = None
    """GiB that an isolated attacker may take; half of the machine's where absent."""
    victim: VictimSpec
    clone: NetSpec
    threat: ThreatSpec
    latency: Params = Field({})
    """Parameters of the latency model."""
    traffic: TrafficSpec = TrafficSpec()
    sweep: SweepSpec | None = None
    attackers: Annotated[tuple[AttackerSpec, ...], Field(min_length=1)]
    defenders: Annotated[tuple[DefenderSpec, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        for kind, players in (("attackers", self.attackers), ("defenders", self.defenders)):
            _refuse_twins(kind, [player.name for player in players])
        _refuse_twins("metrics", [metric.name for metric in self.metrics])
        _refuse_own_measures(self.metrics)
        if self.sweep is not None:
            refuse_unmeasured(self.sweep, [metric.name for metric in self.metrics])
        _refuse_strangers(self.attackers, [defender.name for defender in self.defenders])
        _refuse_nobody(self.pairs)
        if len(set(self.seeds)) < len(self.seeds):
            twin = Counter(self.seeds).most_common(1)[0][0]
            raise PydanticCustomError(MESSAGE, "seeds: {twin} is there twice", {"twin": twin})
        if self.traffic.ood_share > 0 and self.traffic.ood is None:
            raise PydanticCustomError(
                MESSAGE, "traffic.ood_share: needs traffic.ood, the images to take them from"
            )
        if self.traffic.ood_share > 0 and self.traffic.benign == 0:
            raise PydanticCustomError(
                MESSAGE, "traffic.ood_share: needs traffic.benign above 0, of which it is a share"
            )
        refuse_short_accounts(self.threat)
        if self.victim.is_remote:
            _refuse_beside_remote(self)
        if self.size > MOST_EPISODES:
            raise PydanticCustomError(
                MESSAGE,
                "expected at most {most} episodes, got {size}; play fewer seeds or players at once",
                {"most": MOST_EPISODES, "size": self.size},
            )
        return self

    @property
    def pairs(self) -> list[tuple[AttackerSpec, DefenderSpec]]:
        """Who meets whom, attackers in their order."""
        return [
            (attacker, defender)
            for attacker in self.attackers
            for defender in self.defenders
            if (not attacker.against or defender.name in attacker.against)
            and defender.name not in attacker.spares
        ]

    @property
    def size(self) -> int:
        """Number of episodes."""
        points = 1 if self.sweep is None else self.sweep.size
        return len(self.pairs) * len(self.seeds) * points


def _refuse_beside_remote(scenario: ScenarioFile) -> None:
    """Refuse what a victim elsewhere cannot play."""
    if scenario.traffic.benign > 0:
        line = "traffic.benign: expected 0, because a victim elsewhere has users of its own"
        raise PydanticCustomError(MESSAGE, line)
    if scenario.threat.latency == "virtual":
        line = "threat.latency: expected 'none' or 'wall', the time of a request and its answer, " \
               "because what a victim elsewhere computes is not known"  # fmt: skip
        raise PydanticCustomError(MESSAGE, line)
    if scenario.threat.accounts > 1:
        line = "threat.accounts: expected 1, because a victim elsewhere tells accounts by their " \
               "keys, and a scenario has one"  # fmt: skip
        raise PydanticCustomError(MESSAGE, line)


def _refuse_strangers(attackers: tuple[AttackerSpec, ...], known: list[str]) -> None:
    """Refuse an attacker that is to meet, or to spare, somebody who is not there."""
    for attacker in attackers:
        for key in ("against", "spares"):
            for name in getattr(attacker, key):
                if name not in known:
                    raise PydanticCustomError(
                        MESSAGE,
                        "attackers.{attacker}.{key}: no defender is named '{name}'; expected "
                        "some of {known}",
                        {"attacker": attacker.name, "key": key, "name": name,
                         "known": ", ".join(known)},
                    )  # fmt: skip


def _refuse_nobody(pairs: list[tuple[AttackerSpec, DefenderSpec]]) -> None:
    """Refuse a scenario in which nobody meets anybody."""
    if not pairs:
        line = "attackers: none of them meets anybody, by what they say in against and spares"
        raise PydanticCustomError(MESSAGE, line)


def _refuse_own_measures(metrics: tuple[MetricSpec, ...]) -> None:
    """Refuse a metric whose name stands for something else in tables and frames."""
    for metric in metrics:
        if metric.name in _TAKEN:
            line = "metrics: '{name}' stands for something else in every table; give yours another"
            raise PydanticCustomError(MESSAGE, line, {"name": metric.name})


def _refuse_twins(kind: str, names: list[str]) -> None:
    for name, count in Counter(names).most_common(1):
        if count == 1:
            return
        line = "{kind}: {count} are named '{name}'; give each a name of its own"
        raise PydanticCustomError(MESSAGE, line, {"kind": kind, "count": count, "name": name})
