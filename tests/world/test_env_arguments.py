"""Arguments of the environments are refused before a victim is trained."""

import gymnasium
import pytest

import envs.registration  # noqa: F401 - registers
from envs.defences.base import Defence
from envs.duel_env import DuelEnv
from envs.errors import ScenarioError
from envs.game.game_factory import GameSpec

BAD = [
    ({"labels": "harsh"}, "expected labels 'soft' or 'hard', got 'harsh'"),
    ({"labels": None}, "expected labels"),
    ({"labels": ["soft"]}, "expected labels"),
    ({"latency": "wall"}, "expected latency 'none' or 'virtual', got 'wall'"),
    ({"budget": -5}, "expected budget as a whole number of at least 1 and below 9.2e18, got -5"),
    ({"budget": 0}, "expected budget"),
    ({"budget": 2.5}, "expected budget"),
    ({"budget": 2**63}, "expected budget"),
    ({"batch": 0}, "expected batch as a whole number of at least 1 and below 9.2e18, got 0"),
    ({"batch": True}, "expected batch"),
    (
        {"measure_every": 0},
        "expected measure_every as a whole number of at least 1 and below 9.2e18, got 0",
    ),
    ({"measure_every": -1}, "expected measure_every"),
    ({"defence": "dnf"}, "expected an object of a class of defences, .* got 'dnf'"),
    ({"defence": Defence}, "expected an object of a class of defences"),
    ({"benign": 1}, "expected benign of at least 0 and below 1, got 1"),
    ({"benign": float("nan")}, "expected benign"),
]


@pytest.mark.parametrize(("arguments", "words"), BAD)
def test_gymnasium_makes_no_environment_of_such_arguments(arguments, words):
    with pytest.raises(ScenarioError, match=words):
        gymnasium.make("arena/Extraction-v0", **arguments)


@pytest.mark.parametrize(
    "arguments", [{"batch": 0}, {"measure_every": 0}, {"defences": ["dnf"]}, {"defences": "dnf"}]
)
def test_the_duel_refuses_them_too(arguments):
    with pytest.raises(ScenarioError):
        DuelEnv(GameSpec(victim="conv-small"), **arguments)
