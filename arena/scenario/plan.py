"""The plan of one episode: everything that bears on its result, and the hash that names it."""

import hashlib
import json
from functools import cached_property
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from arena.scenario.schema import TrafficSpec
from arena.scenario.schema_parts import (
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
    _swept: str = PrivateAttr(default="")

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
        """Name the episode for people: "dfme vs dnf, seed 0", and in a sweep by its values."""
        title = f"{self.attacker.name} vs {self.defender.name}, seed {self.seed}"
        return f"{title}, {self._swept}" if self._swept else title

    def titled(self, swept: str) -> "EpisodePlan":
        """Return the same plan, told apart from those of other points of a sweep by its title."""
        plan = self.model_copy()
        plan._swept = swept
        return plan

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
    table = {key: _canonical(item) for key, item in value.items()}
    use = table.get("use")
    if not isinstance(use, str):
        return table
    if table.get("code") and (is_file_use(use) or is_class_use(use)):
        table["use"] = short_name(use)
    if table.keys() >= {"root", "download", "params"}:  # a data set
        table.pop("root")
        table.pop("download")
        if use in PATH_SOURCES:
            table["params"] = {k: v for k, v in table["params"].items() if k != "path"}
        if is_file_use(use):
            table["use"] = short_name(use)
    return table
