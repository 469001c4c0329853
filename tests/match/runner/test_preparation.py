"""Victims that are trained ahead of their episodes."""

import pytest

from arena.runner.preparation import prepare
from arena.scenario import Scenario
from envs.errors import ScenarioError

SEARCH = {"over": {"threat.budget": [500, 1000]}, "draw": 1,
          "search": {"maximise": "clone_accuracy"}}  # fmt: skip


def test_victims_are_prepared_once_for_each_defender_and_seed(scenario):
    assert prepare(scenario(seeds="[0, 1]")) == 2


@pytest.mark.parametrize(
    ("key", "values", "victims"),
    [
        ("victim.recipe.epochs", [1, 2, 3], 3),
        ("data.resample", [False, True], 2),
        ("threat.latency", ["none", "virtual"], 2),  # a defence may be set by it
        ("threat.budget", [500, 1000], 1),
        ("clone.use", ["cnn", "mlp"], 1),
    ],
)
def test_every_point_of_a_sweep_finds_its_victim(scenario, key, values, victims):
    assert prepare(scenario({"sweep": {"over": {key: values}}})) == victims


def test_the_points_of_a_search_are_not_known_before(scenario):
    with pytest.raises(ScenarioError, match="follows from what its search finds"):
        prepare(scenario({"sweep": SEARCH}))


def test_a_victim_elsewhere_is_not_said_to_be_ready(tiny):
    raw = tiny(traffic={"benign": 0.0})
    raw["victim"] = {"use": "http://127.0.0.1:9/v2/models/theirs"}
    with pytest.raises(ScenarioError, match="runs elsewhere"):
        prepare(Scenario.parse(raw))
