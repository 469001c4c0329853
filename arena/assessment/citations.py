"""Lays entries of security standards beside what an assessment measured."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from arena.assessment.assessed import Assessment, Judged
from arena.report.formatting import count_text, counted, listed
from arena.scenario import Scenario

# `Any` in this file: tables as TOML gives them.


class Citation(NamedTuple):
    """Something of a standard that an assessment is, or is not, evidence for.

    Attributes:
        framework, version, id, name: as the standard has them.
        checked: whether they were read in the standard's own repository.
        evidence: what was measured; "" where nothing was.
    """

    framework: str
    version: str
    id: str
    name: str
    checked: bool
    evidence: str


def citations(found: Assessment, scenario: Scenario) -> list[Citation]:
    """Lay the standards beside what was measured."""
    evidence = _evidence(found, scenario)
    return [
        Citation(one["framework"], one["version"], entry["id"], entry["name"], one["checked"],
                 evidence.get(entry["topic"], ""))
        for one in _standards()
        for entry in one["entries"]
    ]  # fmt: skip


def _evidence(found: Assessment, scenario: Scenario) -> dict[str, str]:
    """Say what was measured of each topic; a topic without evidence is missing."""
    judged = [one for at in found.budgets for one in at.defenders]
    extracting = {each.attack.name for one in judged for each in one.reached
                  if each.clone is not None and each.attack.extracts}  # fmt: skip
    budgets = listed([count_text(one.budget) for one in found.budgets])
    topics = {}
    if extracting:
        attacks = counted(len(extracting), "attack")
        topics["extraction"] = f"clone accuracy of {attacks} at {budgets} queries"
    if any({"attack_compute", "benign_compute"} & one.effects.effects.keys()
           for one in judged if one.effects is not None):  # fmt: skip
        topics["compute"] = "compute per attack query beside that of a benign one"
    if any(one.inferred for one in judged):
        topics["timing"] = "what response times told of the network"
    if scenario.threat.has_accounts and extracting:
        topics["accounts"] = f"attacks from {count_text(scenario.threat.accounts)} accounts"
    if alarms := _alarms(judged):
        topics["detection"] = f"the attacker was flagged by {alarms}"
    changed = [one.name for one in scenario.defenders
               if any(each.use != "undefended" for each in one.defence)
               and any(one.name == each.defender and each.worst for each in judged)]  # fmt: skip
    if changed:
        topics["defence"] = f"worst case and users' loss of {listed(changed)}"
    return topics


def _alarms(judged: Sequence[Judged]) -> str:
    """Say in how many episodes each defender flagged the attacker; nothing of those that never."""
    told: dict[str, tuple[int, int]] = {}
    for one in judged:
        flagged, episodes = told.get(one.defender, (0, 0))
        told[one.defender] = flagged + one.alarmed.flagged, episodes + one.alarmed.episodes
    return listed([
        f"{name} in {count_text(flagged)} of {counted(episodes, 'episode')}"
        for name, (flagged, episodes) in told.items() if flagged
    ])  # fmt: skip


@cache
def _standards() -> list[dict[str, Any]]:
    text = resources.files("arena.assessment").joinpath("standards.toml").read_text("utf-8")
    cited: list[dict[str, Any]] = tomllib.loads(text)["cited"]
    return cited
