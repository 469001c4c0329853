"""MAZE: its ledger, its game, its replay."""

import pytest
import torch

from agents.attackers.maze import MAZE
from agents.learning.clone import kl_divergence
from agents.learning.schedules import settings_for


def quarters(images):
    return (20 * images.reshape(len(images), 4, -1).mean(2)).softmax(1)


def test_an_iteration_costs_what_is_published():
    thief = MAZE()
    settings = settings_for((3, 32, 32), thief._overrides)
    assert thief.iteration_cost(settings) == 1_920
    assert 5_000_000 // 1_920 == 2_604
    assert settings.generator_rate == 1e-4
    assert settings.clone_rate == 0.1


@pytest.mark.parametrize("budget", [1, 30, 112, 250])
def test_the_ledger_is_the_budget(fake_oracle, kit, budget):
    oracle = fake_oracle(budget, quarters)
    MAZE(batch=8, directions=3, clone_steps=3, replays=2).attack(oracle, kit())
    assert oracle.remaining == 0
    # a generator step asks 8 (3 + 1); of the three clone steps the first asks nothing
    iterations = budget // 48
    assert oracle.requests[: 3 * iterations] == [32, 8, 8] * iterations


def test_the_first_clone_step_learns_from_answers_that_were_bought_already(fake_oracle, kit):
    asked, learned = [], []

    class Watched(MAZE):
        def learn(self, images, targets):
            learned.append((images, targets))
            return super().learn(images, targets)

    oracle = fake_oracle(48, quarters, listen=asked.append)
    Watched(batch=8, directions=3, clone_steps=3, replays=0).attack(oracle, kit())
    images, targets = learned[0]
    assert torch.equal(images, asked[0][:8])
    assert torch.equal(targets, quarters(images))
    assert len(learned) == 3


def test_replays_follow_the_last_step_of_an_iteration(fake_oracle, kit):
    class Watched(MAZE):
        steps = 0

        def prepare(self, oracle, kit):
            super().prepare(oracle, kit)
            step = self.trainer.step

            def counted(images, targets):
                self.steps += 1
                return step(images, targets)

            self.trainer.step = counted

    thief = Watched(batch=8, directions=3, clone_steps=3, replays=5)
    thief.attack(fake_oracle(96, quarters), kit())
    assert thief.steps == 2 * (3 + 5)
    assert len(thief._replay) == 16  # the last batch of each iteration


def test_the_generator_raises_the_disagreement(fake_oracle, kit):
    """With the clone held still, generated images come to be those it is wrong about."""
    thief = MAZE(batch=32, directions=5, generator_rate=0.05)
    oracle = fake_oracle(1_000_000, quarters)
    lent = kit()
    thief.prepare(oracle, lent)

    def disagreement():
        images = thief.synthesiser.images(256)
        with torch.no_grad():
            return float(kl_divergence(thief.clone.eval()(images), quarters(images)).mean())

    before = disagreement()
    for _ in range(10):
        thief.generator_step(oracle, lent)
    assert disagreement() > 1.1 * before


def test_both_rates_follow_a_cosine_to_nothing(fake_oracle, kit):
    thief = MAZE(batch=8, directions=1, clone_steps=2, replays=0, clone_rate=0.1)
    thief.attack(fake_oracle(24 * 10, quarters), kit())
    optimisers = (thief.trainer.optimizer, thief.synthesiser.optimizer)
    rates = [one.param_groups[0]["lr"] for one in optimisers]
    assert rates[0] == pytest.approx(0.1 * 0.5 * (1 - 1), abs=1e-9)
    assert rates[1] == pytest.approx(0, abs=1e-9)


def test_every_iteration_learns_at_the_rate_of_its_place_on_the_cosine(fake_oracle, kit):
    class Watched(MAZE):
        seen = ()

        def learn(self, images, targets):
            self.seen = (*self.seen, self.trainer.optimizer.param_groups[0]["lr"])
            return super().learn(images, targets)

    thief = Watched(batch=8, directions=1, clone_steps=2, replays=1, clone_rate=0.1)
    thief.attack(fake_oracle(24 * 2 + 5, quarters), kit())
    # two iterations of two clone steps; what is left over comes at the end of the cosine
    assert thief.seen == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.0])
