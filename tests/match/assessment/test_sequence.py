"""The sequence follows from the threat model, and each attack in it can be played."""

import pytest

from arena.assessment.sequence import assessed_scenario, chosen
from arena.scenario.scenario import Scenario

POOL = {"use": "strokes", "params": {"count": 100}}
OWN = {"use": "digits", "params": {"split": "validation"}}


def scenario(threat, defenders=("undefended", "randp"), **more):
    return Scenario.parse(
        {
            "version": 1,
            "name": "s",
            "data": "digits",
            "victim": {"use": "conv-small"},
            "clone": "mlp-small",
            "seeds": [3],
            "threat": {"budget": 500, **threat},
            "attackers": [{"use": "noise", "name": "mine"}],
            "defenders": [one if isinstance(one, dict) else {"defence": one} for one in defenders],
            **more,
        }
    )


def names(found):
    return [one.name for one in found.attacks]


@pytest.mark.parametrize(
    ("threat", "played", "left_out"),
    [
        ({}, "repeats noise dfme confidence-filter averaging restored-randp",
         "exit-timing knockoff knockoff-argmax active-thief latency-filter inversion"),
        ({"labels": "hard"}, "repeats noise dfms-hl averaging",
         "exit-timing knockoff active-thief confidence-filter latency-filter inversion "
         "restored-randp"),
        ({"pool": POOL, "latency": "virtual"},
         "repeats exit-timing noise dfme knockoff knockoff-argmax active-thief "
         "late-by-confidence late-by-latency averaging restored-randp", "inversion"),
        ({"pool": OWN},
         "repeats noise dfme knockoff knockoff-argmax active-thief late-by-confidence "
         "averaging inversion restored-randp", "exit-timing late-by-latency"),
    ],
)  # fmt: skip
def test_the_threat_model_admits(threat, played, left_out):
    found = chosen(scenario(threat))
    assert names(found) == played.split()
    assert [one.name for one in found.left_out] == left_out.split()
    assert all(one.reason for one in found.left_out)


def test_every_changed_attack_has_its_plain_one_in_the_sequence():
    for threat in ({}, {"labels": "hard"}, {"pool": POOL, "latency": "virtual"}, {"pool": OWN}):
        found = chosen(scenario(threat))
        assert {one.plain for one in found.attacks if one.plain} <= set(names(found))


def test_the_assessed_scenario_has_the_control_once_and_passes_the_check():
    given = scenario({"pool": POOL, "latency": "virtual"}, ["randp"])
    found = chosen(given)
    played = assessed_scenario(given, found.attacks, 40)
    played.check()
    assert [one.name for one in played.defenders] == ["undefended", "randp"]
    assert [one.name for one in played.attackers] == names(found)
    assert (played.threat.budget, played.seeds, played.name) == (40, (3,), "assess-s")
    again = assessed_scenario(played, found.attacks, 40)
    assert [one.name for one in again.defenders] == ["undefended", "randp"]


@pytest.mark.parametrize(
    ("defender", "strength"),
    [
        ({"defence": "randp", "policy": {"strength": 0.5}}, 0.25),
        ({"defence": "reverse-sigmoid", "params": {"beta": 0.4}}, 0.4),
        ({"defence": "p-poison", "params": {"oracle": "random"}}, 0.5),
        ({"defence": "randp", "params": {"variant": "noise"}}, None),
        ({"defence": "reverse-sigmoid", "params": {"gamma": 1.0}}, None),
        ({"defence": "p-poison", "params": {"oracle": "argmax-preserving"}}, None),
        ({"defence": "randp", "use": "schedule",
          "policy": {"pieces": [{"from": 0, "strength": 0.5}]}}, None),
    ],
)  # fmt: skip
def test_a_restorer_simulates_what_is_served_or_there_is_none(defender, strength):
    found = chosen(scenario({}, ["undefended", {"name": "d", **defender}]))
    restored = [one.table["wrappers"] for one in found.attacks if one.name == "restored-d"]
    assert [one["params"]["strength"] for (one,) in restored] == (
        [] if strength is None else [pytest.approx(strength)]
    )


def test_a_restorer_knows_its_defence_and_meets_it_alone():
    strong = {"name": "strong", "defence": "randp",
              "params": {"epsilon": 0.7, "preserve_top1": "on"}}  # fmt: skip
    found = chosen(scenario({}, ["undefended", strong, "p-poison", "truncation"]))
    restored = {one.name: one.table for one in found.attacks if one.name.startswith("restored")}
    assert set(restored) == {"restored-strong", "restored-p-poison"}
    (wrapper,) = restored["restored-strong"]["wrappers"]
    assert restored["restored-strong"]["against"] == ["strong"]
    assert wrapper["params"] == {
        "defence": "randp", "strength": 0.7, "preserves_top1": True, "clean": "dirichlet",
    }  # fmt: skip
