"""A defender with a sweep stands for one defender at each value of its knob."""

import pytest

from arena.scenario import Scenario
from envs.errors import ScenarioError

RANDP = {"name": "randp", "defence": "randp", "params": {"variant": "target"},
         "sweep": {"epsilon": [0.1, 0.5]}}  # fmt: skip


def scenario(tiny, *defenders, attackers=({"use": "noise"},)):
    return Scenario.parse(tiny(defenders=list(defenders), attackers=list(attackers)))


def names(found):
    return [defender.name for defender in found.defenders]


def test_each_value_is_a_defender_like_one_that_is_written_out(tiny):
    swept = scenario(tiny, {"defence": "undefended"}, RANDP)
    assert names(swept) == ["undefended", "randp epsilon=0.1", "randp epsilon=0.5"]
    params = {"variant": "target", "epsilon": 0.5}
    written = scenario(tiny, {"name": "randp epsilon=0.5", "defence": "randp", "params": params})
    assert swept.plans()[-1].hash == written.plans()[-1].hash


def test_a_defender_without_a_name_is_named_after_its_defence(tiny):
    swept = scenario(tiny, {"defence": "reverse-sigmoid", "sweep": {"beta": [0.1]}})
    assert names(swept) == ["reverse-sigmoid beta=0.1"]


def test_a_knob_of_the_defenders_own_is_swept_too(tiny):
    swept = scenario(
        tiny, {"name": "s", "defence": ["randp"], "sweep": {"policy.strength": [0, 1]}}
    )
    assert names(swept) == ["s strength=0", "s strength=1"]
    assert [one.policy for one in swept.defenders] == [{"strength": 0}, {"strength": 1}]


def test_who_meets_a_sweep_meets_all_of_it(tiny):
    swept = scenario(
        tiny, {"defence": "undefended"}, RANDP,
        attackers=[{"use": "noise", "against": ["randp"]},
                   {"use": "dfme", "spares": ["randp", "undefended"], "against": ["undefended"]}],
    )  # fmt: skip
    met = [(attacker.name, defender.name) for attacker, defender in swept.pairs]
    assert met == [("noise", "randp epsilon=0.1"), ("noise", "randp epsilon=0.5")]


def test_the_text_of_a_scenario_has_its_sweeps_written_out(tiny):
    text = scenario(tiny, RANDP).text
    assert "sweep" not in text
    assert 'name = "randp epsilon=0.1"' in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sweep": {}}, r"defenders.randp.sweep: expected one knob and its values"),
        ({"sweep": [0.1]}, "expected one knob and its values"),
        ({"sweep": {"epsilon": [0.1], "radius": [1]}}, "expected one knob"),
        ({"sweep": {"epsilon": 0.1}}, r"sweep.epsilon: expected a list of values, got 0.1"),
        ({"sweep": {"epsilon": []}}, "expected a list of values"),
        ({"sweep": {"epsilon": "0.1"}}, "expected a list of values"),
        ({"defence": ["randp"], "params": {}}, "a list of defences has no knob of its own"),
        ({"sweep": {"epsilon": [0.1, 0.1]}}, "2 are named 'randp epsilon=0.1'"),
        ({"name": ["randp"]}, "expected a text as name of what is swept, got .'randp'."),
        ({"name": {"a": 1}}, "expected a text as name of what is swept"),
        ({"params": 3, "sweep": {"epsilon": [0.1]}}, "expected a table, got 3"),
    ],
)
def test_what_is_no_sweep_is_refused_in_one_line(tiny, changes, message):
    with pytest.raises(ScenarioError, match=message) as caught:
        scenario(tiny, RANDP | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("epsilon", ["a lot", 3.0])
def test_a_value_that_the_defence_refuses_is_told_with_its_place(tiny, epsilon):
    swept = scenario(tiny, RANDP | {"sweep": {"epsilon": [0.1, epsilon]}})
    with pytest.raises(ScenarioError, match=rf"randp epsilon={epsilon}.*params"):
        swept.check()


@pytest.mark.parametrize("name", [["randp"], {"a": 1}, 3])
def test_an_attacker_that_names_no_text_beside_a_sweep_is_refused(tiny, name):
    with pytest.raises(ScenarioError, match=r"against.0: expected a text"):
        scenario(tiny, RANDP, attackers=[{"use": "noise", "against": [name]}])
