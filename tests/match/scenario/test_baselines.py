"""Shipped scenarios play baselines as their authors published them, and name what departs."""

import inspect
from pathlib import Path

import pytest

from arena.registry import players
from arena.scenario import load

ROOT = Path(__file__).parents[3] / "scenarios"
SCENARIOS = sorted(path for path in ROOT.rglob("*.toml"))

PUBLISHED = {
    "randp": "off", "p-poison": "off", "grad": "off", "reverse-sigmoid": "off",
    "adaptive-misinformation": "off", "truncation": "off", "modelguard-w": "on",
    "modelguard-s": "on", "queen": "off", "same": "off",
}  # fmt: skip
"""What becomes of the label in the papers and the authors' code."""


def _keeps(plan):
    """Return, for each deployed defence with the switch, its name and the switch."""
    for brought in plan.defender.defence:
        layers = [(one["use"], one["params"]) for one in brought.params.get("layers", [])]
        for use, params in [(brought.use, brought.params), *layers]:
            if "preserve_top1" in params:
                yield use, params["preserve_top1"]


def test_every_defence_with_the_switch_is_published_one_way():
    taking = {
        name
        for name in players.defences.names()
        if "preserve_top1" in inspect.signature(players.defences.find(name)).parameters
    }
    assert taking == set(PUBLISHED)


@pytest.mark.parametrize("use", PUBLISHED)
def test_a_defence_is_by_default_what_was_published(use):
    assert players.create("defence", use).preserve_top1 == PUBLISHED[use]


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_keeps_labels_unlike_the_original_says_so_and_stands_beside_it(path):
    scenario = load(path)
    if any(tag.startswith("paper:DNF") for tag in scenario.tags):
        return  # its rows have the paper's names, and labels are kept there: the files say so
    uses = {}
    for plan in scenario.plans():
        for use, switch in _keeps(plan):
            uses.setdefault(use, {})[plan.defender.name] = switch
    for use, defenders in uses.items():
        departing = {name for name, switch in defenders.items() if switch != PUBLISHED[use]}
        assert all("labels-kept" in name for name in departing), departing
        assert set(defenders) > departing or not departing, f"{use} is not played as published"
        unlike = {name for name in set(defenders) - departing if "labels-kept" in name}
        assert not unlike, unlike
