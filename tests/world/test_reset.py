"""A reset begins anew: with one seed the same answers, whatever was played before."""

import threading

import numpy as np
import pytest
import torch

from arena.registry import players
from envs.defences.base import Defence
from envs.duel_env import ATTACKER, DEFENDER, DuelEnv
from envs.extraction_env import ExtractionEnv
from envs.game.game_factory import GameSpec
from envs.training.recipes import Recipe

RECIPE = Recipe(epochs=2, batch=64, learning_rate=0.05)


class Tiring(Defence):
    """Serves less and less of the answer; keeps its state in several kinds of attributes."""

    epsilon = 2.0

    def __init__(self):
        self.counts = {"requests": 0}
        self.weight = torch.zeros(1)
        self.network = torch.nn.Linear(1, 1)
        self.own = torch.Generator().manual_seed(1)
        self.lock = threading.Lock()  # of which no copy can be made

    def perturb_posteriors(self, posteriors, serving):
        with self.lock:
            self.counts["requests"] += 1
            self.weight += torch.rand(1, generator=self.own)
            with torch.no_grad():
                self.network.bias += 1
        uniform = torch.full_like(posteriors, 1 / posteriors.shape[1])
        share = 1 / (1 + self.counts["requests"] + self.weight + self.network.bias.detach().abs())
        return torch.lerp(uniform, posteriors, share)


def answers(env, *, seed, images=0):
    generator = np.random.default_rng(images)
    env.reset(seed=seed)
    found, over = [], False
    while not over:
        asked = generator.random((32, 1, 8, 8), dtype=np.float32)
        seen, _, over, _, _ = env.step(asked)
        found.append(seen["posteriors"])
    return np.concatenate(found)


def defence(name):
    return Tiring() if name == "tiring" else players.create("defence", name)


@pytest.mark.parametrize("name", ["tiring", "modelguard-s", "randp"])
def test_a_seed_gives_the_same_answers_after_another_episode(name):
    env = ExtractionEnv(defence=defence(name), recipe=RECIPE, victim="mlp-small", budget=96,
                        batch=32)  # fmt: skip
    first = answers(env, seed=0)
    answers(env, seed=1, images=1)
    np.testing.assert_array_equal(answers(env, seed=0), first)


def test_the_same_holds_with_several_defences_of_one_kind():
    spec = GameSpec(victim="mlp-small", recipe=RECIPE, budget=96)
    env = DuelEnv(spec, defences=[Tiring(), Tiring()], batch=32)

    def play(seed):
        env.reset(seed=seed)
        images = np.random.default_rng(seed).random((32, 1, 8, 8), dtype=np.float32)
        found = []
        for number in (0, 1, 0):
            moves = {ATTACKER: images, DEFENDER: {"defence": number, "strength": [1.0]}}
            found.append(env.step(moves)[0][ATTACKER]["posteriors"])
        return np.concatenate(found)

    first = play(0)
    play(1)
    np.testing.assert_array_equal(play(0), first)


def make_duel():
    return DuelEnv(GameSpec(victim="mlp-small", recipe=RECIPE, budget=96, benign=0.5), batch=32)


def seen_by_server(env, *, seed=None):
    env.reset(seed=seed)
    images = np.zeros((32, 1, 8, 8), dtype=np.float32)
    moves = {ATTACKER: images, DEFENDER: {"defence": 0, "strength": [1.0]}}
    return env.step(moves)[0][DEFENDER]["images"]


def test_two_duels_without_a_seed_are_two_games():
    one, other = make_duel(), make_duel()
    assert not np.array_equal(seen_by_server(one), seen_by_server(other))
    assert np.array_equal(seen_by_server(one, seed=3), seen_by_server(other, seed=3))
    # what follows a seed follows from it
    assert np.array_equal(seen_by_server(one), seen_by_server(other))
    assert not np.array_equal(seen_by_server(one), seen_by_server(other, seed=3))
