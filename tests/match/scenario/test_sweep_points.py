"""A scenario's sweep: its points, what is refused, and that each point is a game of its own."""

import math

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
        ({"name": ["a", "b"]}, {}, "over.name: expected a key that makes another game"),
        ({"threat.budget": {"low": 1, "high": 9}}, {}, "add draw, or give a list"),
        ({"threat.budget": {"low": 9, "high": 1}}, {"draw": 2}, "expected low below high"),
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
