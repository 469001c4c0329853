"""Lays entries of security standards beside what an assessment measured."""

import tomllib
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from arena.assessment.assessed import Assessment
from arena.report.formatting import count_text, listed
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
    names = {one.name for one in found.chosen.attacks}
    extracting = [one.name for one in found.chosen.attacks if one.extracts]
    budgets = listed([count_text(one.budget) for one in found.budgets])
    topics = {
        "extraction": f"clone accuracy of {len(extracting)} attacks at {budgets} queries",
        "compute": "compute per attack query beside that of a benign one",
    }
    if "exit-timing" in names:
        topics["timing"] = "what response times told of the network"
    if scenario.threat.has_accounts:
        topics["accounts"] = f"attacks from {count_text(scenario.threat.accounts)} accounts"
    acting = [one.name for one in scenario.defenders if one.use != "static"]
    if acting:
        topics["detection"] = f"alarms and responses of {listed(acting)}"
    changed = [one.name for one in scenario.defenders
               if any(each.use != "undefended" for each in one.defence)]  # fmt: skip
    if changed:
        topics["defence"] = f"worst case and users' loss of {listed(changed)}"
    return topics


@cache
def _standards() -> list[dict[str, Any]]:
    text = resources.files("arena.assessment").joinpath("standards.toml").read_text("utf-8")
    cited: list[dict[str, Any]] = tomllib.loads(text)["cited"]
    return cited
