"""Who meets whom in a scenario, and which images an attacker owns."""

import pytest

from arena.scenario import Scenario
from arena.scenario.given import scenario_of
from envs.errors import ScenarioError

BASE = {
    "version": 1,
    "name": "meetings",
    "data": "digits",
    "seeds": [0, 1],
    "victim": "conv-small",
    "clone": "mlp-small",
    "threat": {"budget": 100, "pool": "strokes"},
    "defenders": [{"defence": "undefended"}, {"defence": "randp"}, {"defence": "truncation"}],
}


def scenario(*attackers, **changes):
    return Scenario.parse({**BASE, "attackers": list(attackers), **changes})


def meetings(one):
    return [(plan.attacker.name, plan.defender.name) for plan in one.plans() if plan.seed == 0]


def test_an_attacker_meets_everybody_unless_it_says_whom():
    one = scenario(
        {"use": "noise"},
        {"use": "averaging", "against": ["randp"]},
        {"use": "argmax", "spares": ["randp"]},
    )
    assert meetings(one) == [
        ("noise", "undefended"),
        ("noise", "randp"),
        ("noise", "truncation"),
        ("averaging", "randp"),
        ("argmax", "undefended"),
        ("argmax", "truncation"),
    ]
    assert one.size == len(one.plans()) == 12


@pytest.mark.parametrize("key", ["against", "spares"])
def test_a_defender_who_is_not_there_is_refused_with_the_names_of_those_who_are(key):
    message = rf"attackers.noise.{key}: no defender is named 'rndp'; expected some of .*randp"
    with pytest.raises(ScenarioError, match=message):
        scenario({"use": "noise", key: ["rndp"]})


@pytest.mark.parametrize(
    "keys",
    [
        {"spares": ["undefended", "randp", "truncation"]},
        {"against": ["randp"], "spares": ["randp"]},
    ],
)
def test_a_scenario_in_which_nobody_meets_anybody_is_refused(keys):
    with pytest.raises(ScenarioError, match="attackers: none of them meets anybody") as refused:
        scenario({"use": "noise", **keys}, {"use": "argmax", **keys})
    assert "\n" not in str(refused.value)
    assert scenario({"use": "noise"}, {"use": "argmax", **keys}).size == 6


def test_whom_else_an_attacker_meets_bears_on_no_episode():
    alone = scenario({"use": "noise", "against": ["randp"]}).plans()
    among = [plan for plan in scenario({"use": "noise"}).plans() if plan.defender.name == "randp"]
    assert [plan.hash for plan in alone] == [plan.hash for plan in among]


def test_an_attacker_may_own_other_images_than_the_rest():
    digits = {"use": "digits", "params": {"split": "validation"}}
    one = scenario({"use": "knockoff"}, {"name": "insider", "use": "knockoff", "pool": digits})
    pools = {plan.attacker.name: plan.threat.pool.use for plan in one.plans()}
    assert pools == {"knockoff": "strokes", "insider": "digits"}
    one.check()
    everybody = scenario(
        {"name": "insider", "use": "knockoff"}, threat={"budget": 100, "pool": digits}
    )
    hashes = {plan.hash for plan in one.plans() if plan.attacker.name == "insider"}
    assert hashes == {plan.hash for plan in everybody.plans()}


def test_a_pool_of_its_own_grants_an_attacker_what_it_needs():
    with pytest.raises(ScenarioError, match="pool"):
        scenario({"use": "knockoff"}, threat={"budget": 100}).check()
    scenario({"use": "knockoff", "pool": "strokes"}, threat={"budget": 100}).check()
    with pytest.raises(ScenarioError, match=r"attackers\.knockoff\.pool"):
        scenario({"use": "knockoff", "pool": "stroke"}, threat={"budget": 100}).check()


THREE = (
    {"use": "noise"},
    {"use": "averaging", "against": ["randp"]},
    {"use": "argmax", "spares": ["randp", "truncation"]},
)


def given(attackers, defenders):
    return scenario_of(scenario(*THREE), attackers, defenders, None, {}, apart=False)


@pytest.mark.parametrize(
    ("defenders", "met"),
    [
        ("undefended", [("noise", "undefended"), ("argmax", "undefended")]),
        ("randp", [("noise", "randp"), ("averaging", "randp")]),
        (["truncation", "queen"], [("noise", "truncation"), ("noise", "queen"),
                                   ("argmax", "queen")]),
    ],
)  # fmt: skip
def test_defenders_that_were_not_chosen_are_named_by_nobody(defenders, met):
    assert meetings(given(None, defenders)) == met


def test_an_attacker_that_was_chosen_and_meets_none_of_the_chosen_is_refused():
    with pytest.raises(ScenarioError, match="no defender is named 'randp'"):
        given("averaging", "undefended")
