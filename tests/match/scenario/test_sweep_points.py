"""A scenario's sweep: its points, what is refused, and that each point is a game of its own."""

import math
import pickle

import pytest

from arena.analysis.games import games_of
from arena.log.store import Log
from arena.runner.match import play
from arena.scenario.scenario import Scenario
from arena.scenario.settings import HOW_ASKED, HOW_PLAYED, ONLY_SHOWN
from envs.errors import ScenarioError


def swept(tiny, over, **more):
    return Scenario.parse(tiny(sweep={"over": over, **more}))


def settings(scenario):
    return [(one.threat.budget, one.clone.use) for one in scenario.points]


def test_all_combinations_are_played_the_last_key_innermost(tiny):
    scenario = swept(tiny, {"threat.budget": [10, 20], "clone.use": ["mlp-small", "conv-small"]})
    assert settings(scenario) == [
        (10, "mlp-small"), (10, "conv-small"), (20, "mlp-small"), (20, "conv-small"),
    ]  # fmt: skip
    plans = scenario.plans()
    assert len(plans) == scenario.size == len({plan.hash for plan in plans}) == 4
    scenario.check()


def test_nested_tables_name_the_same_keys(tiny):
    dotted = swept(tiny, {"threat.budget": [10, 20]})
    nested = swept(tiny, {"threat": {"budget": [10, 20]}})
    assert dotted.sweep == nested.sweep


def test_a_point_is_the_scenario_with_that_value_set(tiny):
    (first, second) = swept(tiny, {"threat.budget": [10, 20]}, seed=4).points
    assert second.plans() == Scenario.parse(tiny(threat={"budget": 20})).plans()
    assert second.plans() != first.plans()
    assert second.sweep is None


def test_points_are_drawn_alike_from_the_same_file_and_within_their_ends(tiny):
    over = {
        "threat.budget": {"low": 10, "high": 1000, "log": True, "whole": True},
        "clone.use": ["mlp-small", "conv-small"],
        "traffic.benign": {"low": 0.1, "high": 0.4},
    }
    drawn = swept(tiny, over, draw=60).points
    assert [one.plans() for one in swept(tiny, over, draw=60).points] == [
        one.plans() for one in drawn
    ]
    budgets = [one.threat.budget for one in drawn]
    assert budgets != [one.threat.budget for one in swept(tiny, over, draw=60, seed=1).points]
    assert min(budgets) >= 10
    assert max(budgets) <= 1000
    # evenly in the logarithm: as many below the geometric mean as above it
    assert 18 <= sum(one < math.sqrt(10 * 1000) for one in budgets) <= 42
    assert {one.clone.use for one in drawn} == {"mlp-small", "conv-small"}
    assert all(0.1 <= one.traffic.benign <= 0.4 for one in drawn)


def test_a_point_that_is_drawn_twice_is_played_once(tiny):
    scenario = swept(tiny, {"threat.budget": [10, 20]}, draw=30)
    assert sorted(one.threat.budget for one in scenario.points) == [10, 20]


@pytest.mark.parametrize(
    ("over", "more", "line"),
    [
        ({}, {}, "sweep.over"),
        ({"threat.budget": []}, {}, "sweep.over"),
        ({"threat.budget": 5}, {}, "sweep.over"),
        ({"seeds": [[0], [1]]}, {}, "over.seeds: expected a key that makes another game"),
        ({" seeds ": [[0], [1]]}, {}, "expected a key that makes another game"),
        ({"name": ["a", "b"]}, {}, "over.name: expected a key that makes another game"),
        ({"threat.budget": {"low": 1, "high": 9}}, {}, "add draw, or give a list"),
        ({"threat.budget": {"low": 9, "high": 1}}, {"draw": 2}, "expected low below high"),
        ({"threat.budget": {"low": 10.2, "high": 10.8, "whole": True}}, {"draw": 2},
         "expected a whole number between 10.2 and 10.8; there is none"),
        ({"traffic.benign": {"low": 0, "high": 1, "log": True}}, {"draw": 2}, "above 0 with log"),
        ({"threat.budget": list(range(1, 102)), "checkpoints": list(range(1, 101))}, {},
         "expected at most 10000 combinations, got 10100; draw some of them"),
        ({"threat.budget": [5]}, {"draw": 0}, "sweep.draw"),
        ({"threat.budget": [10, 5, 1e1]}, {}, "over.threat.budget: 10.0 is there twice"),
        ({"attackers": [[{"use": "noise"}], [{"use": "noise"}]]}, {}, "is there twice"),
        ({"threat.budget": [5]}, {"twice": 1}, "sweep.twice"),
    ],
)  # fmt: skip
def test_no_sweep_is_refused_in_one_line(tiny, over, more, line):
    with pytest.raises(ScenarioError) as refused:
        swept(tiny, over, **more)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("key", [
    *HOW_PLAYED, *(f"victim.{one}" for one in (*HOW_ASKED, *ONLY_SHOWN)), "victim.class_names.0",
])  # fmt: skip
def test_keys_that_make_no_other_game_are_not_swept(tiny, key):
    with pytest.raises(ScenarioError, match=rf"over.{key}: expected a key that makes another game"):
        swept(tiny, {key: [100, 200]})


@pytest.mark.parametrize(
    ("over", "line"),
    [
        ({"threat.budget": [5, -1]}, "sweep at threat.budget=-1: threat.budget: "),
        ({"threat.bugdet": [5]}, "sweep at threat.bugdet=5: threat.bugdet: "),
        ({"attackers.nobody.use": ["dfme"]}, "sweep at attackers.nobody.use="),
        ({"clone.use": ["mlp-small", "nothing"]}, "no network named 'nothing'"),
    ],
)
def test_a_point_that_cannot_be_played_is_told_with_its_values(tiny, over, line):
    with pytest.raises(ScenarioError) as refused:
        swept(tiny, over).check()
    assert line in str(refused.value)


def test_each_point_is_a_game_and_is_skipped_the_next_time(tiny, tmp_path):
    scenario = swept(tiny, {"threat.budget": [4, 8]})
    with Log.open(tmp_path / "a.db") as log:
        result = play(scenario, log=log)
        assert {game.setting for game, _ in games_of(result.episodes).values()} == {
            "threat.budget=4", "threat.budget=8",
        }  # fmt: skip
        wider = swept(tiny, {"threat.budget": [4, 8, 6]})
        again = play(wider, log=log)
    assert (result.skipped, again.skipped, len(again.episodes)) == (0, 2, 3)


NAMES = [str(number) for number in range(10)]
PLAIN = {"use": "conv-small", "recipe": {"epochs": 1}}


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("victim", [PLAIN, PLAIN | {"params": {}}]),
        ("victim", [PLAIN | {"class_names": NAMES}, {"use": "mlp-small"}, PLAIN]),
        ("data", ["digits", {"use": "digits", "download": True}]),
        ("threat", [{"budget": 10, "accounts": 1}, {"budget": 10}]),
    ],
)
@pytest.mark.parametrize("more", [{}, {"draw": 20}])
def test_points_that_are_one_game_are_refused(tiny, key, values, more):
    with pytest.raises(ScenarioError, match="make one and the same game; take one") as refused:
        swept(tiny, {key: values}, **more).check()
    assert str(refused.value).startswith(f"sweep: {key}=")
    assert "\n" not in str(refused.value)


def test_a_meeting_that_is_alike_at_two_points_is_one_game(tiny):
    players = [{"use": "noise"}, {"use": "dfme"}]
    over = {"attackers.dfme.params.batch": [10, 20]}
    scenario = Scenario.parse(tiny(attackers=players, sweep={"over": over}))
    scenario.check()
    assert [one.attacker.name for one in scenario.plans()] == ["noise", "dfme", "dfme"]


def names(scenario):
    return [(one.attackers[0].name, one.defenders[0].name) for one in scenario.points]


def test_who_is_named_after_what_they_are_goes_by_the_new_name_at_each_point(tiny):
    given = tiny(defenders=[{"defence": "undefended"}])

    def named(over, **more):
        return names(Scenario.parse({**given, **more, "sweep": {"over": over}}))

    assert named({"attackers.0.use": ["noise", "dfme"]}) == [
        ("noise", "undefended"), ("dfme", "undefended"),
    ]  # fmt: skip
    assert named({"defenders.undefended.defence": ["undefended", "randp"]}) == [
        ("noise", "undefended"), ("noise", "randp"),
    ]  # fmt: skip
    assert named({"attackers.0.wrappers": [[], ["averaging"]]}) == [
        ("noise", "undefended"), ("noise+averaging", "undefended"),
    ]  # fmt: skip
    mine = [{"use": "noise", "name": "mine"}]
    assert named({"attackers.mine.use": ["noise", "dfme"]}, attackers=mine) == [
        ("mine", "undefended"), ("mine", "undefended"),
    ]  # fmt: skip


def test_the_parameters_of_a_defender_are_swept_as_its_file_writes_them(tiny):
    players = [{"name": "rp", "defence": "randp", "params": {"epsilon": 0.1}}]
    for key in ("defenders.rp.params.epsilon", "defenders.0.defence.0.params.epsilon"):
        scenario = Scenario.parse(tiny(defenders=players, sweep={"over": {key: [0.2, 0.3]}}))
        scenario.check()
        brought = [one.defenders[0].defence[0].params for one in scenario.points]
        assert brought == [{"epsilon": 0.2}, {"epsilon": 0.3}]
    whole = Scenario.parse(
        tiny(defenders=players, sweep={"over": {"defenders.rp.params": [{"norm": 1}]}})
    )
    assert whole.points[0].defenders[0].defence[0].params == {"norm": 1}


@pytest.mark.parametrize(("low", "high"), [(0.9990, 0.9999), (1000.1, 1000.9), (-5.004, -5.001)])
@pytest.mark.parametrize("log", [True, False])
def test_a_narrow_range_gives_as_many_points_as_are_drawn(tiny, low, high, log):
    if log and low < 0:
        return
    drawn = swept(tiny, {"latency.noise": {"low": low, "high": high, "log": log}}, draw=20)
    values = {one["latency.noise"] for one in drawn.sweep.points()}
    assert len(values) > 5
    assert all(low <= one <= high for one in values)
    usual = swept(tiny, {"latency.noise": {"low": 0.05, "high": 2.0}}, draw=1).sweep
    (point,) = usual.points()
    assert point == {"latency.noise": 1.7}


def test_titles_tell_points_apart_and_bear_on_nothing_else(tiny):
    scenario = swept(tiny, {"threat.budget": [10, 20]})
    first, second = scenario.plans()
    assert (first.title, second.title) == (
        "noise vs undefended, seed 0, threat.budget=10",
        "noise vs undefended, seed 0, threat.budget=20",
    )
    (alone,) = scenario.points[0].plans()
    assert alone.title == "noise vs undefended, seed 0"
    assert (alone.hash, alone.model_dump()) == (first.hash, first.model_dump())
    assert pickle.loads(pickle.dumps(first)).title == first.title
    assert first.model_copy(update={"after": "x"}).title == first.title
