"""Defences by name: in scenarios, inside a stack, and under the conformance suite."""

from functools import partial
from pathlib import Path

import pytest
import torch

from arena.conformance.defences import check_defence
from arena.registry import players
from arena.runner.progress import Watcher
from arena.runner.setup import Setup
from arena.scenario import Scenario, load
from envs.errors import ScenarioError
from envs.game.clocks import VirtualClock
from envs.latency.model import make_model

SCENARIOS = sorted((Path(__file__).parents[3] / "scenarios" / "defences").glob("*.toml"))
BRIEF = {"surrogate_epochs": 1, "schedule_epochs": 2}
DEFENCES = {
    "dnf_plus": {"steps": 20},
    "randp": {},
    "p-poison": {},
    "grad": BRIEF,
    "meco": {"epochs": 1},
    "reverse-sigmoid": {},
    "adaptive-misinformation": {"epochs": 1},
    "truncation": {"top": 2},
    "modelguard-w": {},
    "modelguard-s": {},
    "misleader": {"epochs": 1},
    "queen": {},
    "same": {"epochs": 5},
    "timing": {},
    "stack": {"layers": [{"use": "randp", "params": {"epsilon": 0.2}}, "modelguard-w", "timing"]},
}


@pytest.mark.parametrize(
    "use",
    [pytest.param(one, marks=[pytest.mark.slow] if one == "meco" else []) for one in DEFENCES],
)
def test_a_defence_passes_the_suite_that_authors_run(use):
    findings = check_defence(partial(players.create, "defence", use, DEFENCES[use]))
    assert [found for found in findings if not found.passed] == []


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_scenario_of_a_defence_can_be_played(path):
    scenario = load(path)
    scenario.check()
    names = {defender.name for defender in scenario.defenders}
    assert "undefended" in names
    assert {"noise", "dfme"} <= {attacker.use for attacker in scenario.attackers}


def test_every_defence_that_perturbs_has_a_scenario():
    used = set()
    for path in SCENARIOS:
        for plan in load(path).plans():
            for defence in plan.defender.defence:
                used.add(defence.use)
                used.update(layer["use"] for layer in defence.params.get("layers", []))
    assert used >= {*DEFENCES, "dnf", "undefended"}


def test_benign_users_with_odd_images_are_in_the_scenario_of_the_bare_victim():
    path = next(path for path in SCENARIOS if path.stem == "undefended")
    traffic = load(path).traffic
    assert traffic.benign > 0
    assert traffic.ood_share > 0


def test_the_suite_names_every_defence_and_says_what_becomes_of_the_label():
    """But for those that hide time, and several at once."""
    plans = load("defence_suite").plans()
    deployed_defences = {
        deployed_defence.use: deployed_defence.params
        for plan in plans
        for deployed_defence in plan.defender.defence
    }
    names = set(players.defences.names())
    assert set(deployed_defences) >= names - {"timing", "stack", "dnf-plus", "dnf_plus"}
    written = load("defence_suite").model_dump(exclude_unset=True)["defenders"]
    for defender in written:
        for deployed_defence in defender["defence"]:
            if "preserve_top1" in deployed_defences.get(deployed_defence["use"], {}):
                assert "preserve_top1" in deployed_defence["params"], defender["name"]


def test_every_main_attacker_meets_every_defender_or_one_that_labels_alike():
    """Who learns from labels alone is spared nothing but the undefended victim to the bit."""
    suite = load("defence_suite")
    keeping = {
        defender.name
        for defender in suite.defenders
        if all(
            deployed_defence.params.get("preserve_top1") == "on"
            for deployed_defence in defender.defence
        )
    }
    for attacker in suite.attackers:
        assert set(attacker.spares) <= keeping - {"randp-labels-kept"}
        if attacker.name in ("dfme", "knockoff"):
            assert not attacker.spares
        if attacker.name in ("dfme", "dfms-hl", "knockoff", "knockoff-hard"):
            assert not attacker.against


def test_a_layer_bears_on_what_an_episode_is():
    path = next(path for path in SCENARIOS if path.stem == "stack")
    plans = [
        load(path, [f"defenders.dnf-rounded-constant.params.layers={layers}"]).plans()[-1]
        for layers in (
            '["dnf", {use = "truncation", params = {decimals = 2}}]',
            '["dnf", {use = "truncation", params = {decimals = 3}}]',
            '["dnf", {use = "truncation", params = {decimals = 2, rest = "zero"}}]',
        )
    ]
    assert plans[0].hash != plans[1].hash
    assert plans[0].hash == plans[2].hash  # a default that is written out changes nothing


def test_a_fault_inside_a_stack_is_told_with_its_place():
    with pytest.raises(ScenarioError, match=r"layers\.1\.params\.epsilonn.*'epsilon'"):
        players.create(
            "defence", "stack", {"layers": ["timing", {"use": "randp", "params": {"epsilonn": 1}}]}
        )
    with pytest.raises(ScenarioError, match="at least one layer"):
        players.create("defence", "stack", {"layers": []})


def test_constant_time_waits_for_the_server_of_the_scenario(tiny):
    """Not for the default one: against a slower server a shorter deadline hides nothing."""
    scenario = Scenario.parse(
        tiny(
            threat={"latency": "virtual"},
            latency={"server": "cpu", "noise": 0.1},
            defenders=[{"defence": "timing"}],
        )
    )
    setup = Setup(torch.device("cpu"), Watcher())
    (deployed_defence,) = setup.set_up_defender(scenario.plans()[0]).deployed_defences
    model = make_model("cpu", noise=0.1)
    answer = deployed_defence.defence.answer(
        deployed_defence.victim,
        torch.rand(50, 1, 8, 8),
        clock=VirtualClock(model, 0),
        generator=torch.Generator(),
    )
    deadline = model.expected(deployed_defence.victim.profile, deviations=4)[-1]
    assert (answer.latency == deadline).all()
