"""What an environment is handed beside its actions is taken, or refused in one line."""

import numpy as np
import pytest
import torch

from envs.duel_env import DuelEnv
from envs.errors import ArenaError
from envs.extraction_env import ExtractionEnv
from envs.game.game_factory import GameSpec
from envs.training.recipes import recipe_for

RECIPE = recipe_for((1, 8, 8)).with_changes(epochs=1)
PLAYED = {"victim": "mlp-small", "budget": 100, "recipe": RECIPE}
MAKE = {"duel": lambda: DuelEnv(GameSpec(**PLAYED)), "extraction": lambda: ExtractionEnv(**PLAYED)}


@pytest.fixture(scope="module", params=MAKE)
def env(request):
    return MAKE[request.param]()


BAD = {
    "a text": ({"seed": "x"}, "expected seed as None or a whole number"),
    "a negative seed": ({"seed": -1}, "and below 9.2e18, got -1"),
    "a fraction": ({"seed": 1.5}, "got 1.5"),
    "too large": ({"seed": 10**30}, "got a larger one"),
    "a truth": ({"seed": True}, "expected seed"),
    "a list": ({"options": [1]}, "expected options as {'clone': module}, got list"),
    "no module": ({"options": {"clone": "x"}}, "expected a torch.nn.Module as clone, got str"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_reset_by_what_is_no_seed_or_option_is_refused(env, what):
    given, told = BAD[what]
    with pytest.raises(ArenaError) as refused:
        env.reset(**given)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_clone_that_is_no_module_is_refused_when_it_is_submitted(env):
    with pytest.raises(ArenaError, match=r"expected a torch\.nn\.Module as clone, got dict"):
        env.submit({})


@pytest.mark.parametrize("seed", [0, np.int64(3), 2**63 - 1, None])
def test_seeds_and_clones_are_taken(env, seed):
    env.reset(seed=seed, options={"clone": torch.nn.Identity()})
    env.reset(seed=seed, options={})


@pytest.mark.parametrize("actions", [None, {}, {"attacker": 1}, [1, 2]])
def test_a_move_that_is_missing_is_named(actions):
    duel = MAKE["duel"]()
    duel.reset(seed=0)
    with pytest.raises(ArenaError, match="expected a move of each of attacker and defender"):
        duel.step(actions)
