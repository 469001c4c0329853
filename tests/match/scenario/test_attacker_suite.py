"""Every attacker of ours keeps the rules, and every scenario that shows one can be played."""

from functools import partial
from pathlib import Path

import pytest

from agents.attackers.campaign import Campaign
from agents.attackers.exit_timing import ExitTiming
from agents.attackers.knockoff import Knockoff
from agents.attackers.latency_filter import LatencyFilter
from arena.conformance import assert_conforms
from arena.registry import players
from arena.scenario import load

ROOT = Path(__file__).parents[3] / "scenarios"
# these have conformance tests of their own
ELSEWHERE = {"noise", "random-generator", "dfme"}
OURS_ALONE = {"noise"}


# fewer epochs of the same steps
LIGHT = {
    "dfms-hl": {
        "gan_epochs": 1, "clone_epochs": 1, "diversity_epochs": 1, "averages": (0.0, 0.9)
    },
    "knockoff": {"epochs": 1},
    "active-thief": {"choices": 1, "round_epochs": 1, "epochs": 1, "candidates": 50},
    "exit-timing": {"most_probes": 40},
    "disguide": {"batch": 100, "replays": 1, "capacity": 300},
    "slowdown": {"steps": 2},
    "decoy-filter": {"epochs": 2},
    "recovery": {"pairs": 2000},
    "s4l": {"epochs": 1},
    "e3": {"epochs": 2, "resolution": 0.75, "alignment": 0.5},
    "jbda": {"epochs": 1, "seeds": 30},
    "maze": {"directions": 2, "replays": 1},
    "late-knockoff": {"epochs": 2},
    "guard-surrogate": {"epochs": 1, "surrogates": 1, "guard_steps": 10, "moves": 3},
    "rule-finder": {"epochs": 1, "steps": 10},
}  # fmt: skip


@pytest.mark.parametrize("name", [n for n in players.attackers.builtin if n not in ELSEWHERE])
def test_an_attacker_conforms(name):
    assert_conforms(partial(players.attackers.find(name), **LIGHT.get(name, {})))


@pytest.mark.slow
@pytest.mark.parametrize("name", LIGHT)
def test_an_attacker_conforms_as_it_is_published(name):
    assert_conforms(players.attackers.find(name))


def reconnaissance() -> Campaign:
    return Campaign(phases=[ExitTiming(), LatencyFilter()], shares=[0.4, 0.6])


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(reconnaissance, id="campaign", marks=pytest.mark.slow),
        pytest.param(partial(Knockoff, policy="adaptive", epochs=2), id="bandit"),
    ],
)
def test_what_an_attacker_can_also_be_told_to_do_conforms(make):
    """Every image the victim saw was charged, in a campaign of several attackers too."""
    assert_conforms(make)


@pytest.mark.parametrize("path", sorted((ROOT / "attackers").glob("*.toml")), ids=lambda p: p.stem)
def test_a_scenario_of_one_attacker_names_what_exists(path):
    load(path).check()


def test_every_attacker_has_a_scenario_of_its_own_on_digits():
    for use in players.attackers.builtin:
        scenario = load(ROOT / "attackers" / f"{use.replace('-', '_')}.toml")
        assert scenario.data.use == "digits"
        assert use in {attacker.use for attacker in scenario.attackers}


@pytest.mark.parametrize("use", [n for n in players.attackers.builtin if n not in OURS_ALONE])
def test_an_attacker_names_what_it_is_taken_from(use):
    assert "Source:" in (players.attackers.find(use).__doc__ or "")


@pytest.mark.parametrize(
    "name",
    [
        "attack_suite",
        "attack_suite_28",
        "attacks/extraction",
        "recon_then_extract",
        "exit_timing",
        "photographs",
        "dfme_svhn",
    ],
)
def test_a_scenario_of_many_attackers_names_what_exists(name):
    load(name).check()


def test_the_suites_play_every_attacker():
    names = ("attack_suite", "attacks/extraction", "dnf_plus_adaptive")
    suites = [load(name) for name in names]
    played = {attacker.use for suite in suites for attacker in suite.attackers}
    played.add("repeats")  # it trains no clone, and belongs to assessments
    assert played == set(players.attackers.builtin)
