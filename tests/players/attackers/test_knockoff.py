"""KnockoffNets: its ledger, its transfer set, its two policies."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.knockoff import Knockoff
from agents.base import Kit
from agents.learning.class_bandit import ClassBandit, rewards
from agents.learning.transfer_set import RECIPES, Draws, TransferSet, recipe_for
from envs.data.images import ImageSet
from envs.data.sources import load, load_pool
from envs.errors import PlayerError, ScenarioError, UnknownName
from envs.nets import registry
from envs.seeding import Streams
from envs.training.evaluation import evaluate, predict
from envs.training.recipes import Recipe
from envs.types import Response, ThreatModel

SHAPE = (1, 8, 8)


def pool_of(count=60, classes=3):
    stream = Streams(5).torch("pool")
    pixels = torch.randint(256, (count, *SHAPE), generator=stream).to(torch.uint8)
    labels = torch.arange(count) % classes
    return ImageSet(pixels, labels, classes, "pool", tuple(str(k) for k in range(classes)))


def posteriors(images):
    """Four classes, told apart by the brightness of the quarters of an image."""
    quarters = images.reshape(len(images), 4, -1).mean(2)
    return (20 * quarters).softmax(1)


def one_hot(images):
    return torch.nn.functional.one_hot(posteriors(images).argmax(1), 4).float()


@pytest.fixture
def with_pool(kit):
    return lambda pool=None, **options: replace(kit(**options), surrogate_pool=pool or pool_of())


def weights(clone):
    return torch.cat([p.detach().flatten() for p in clone.parameters()])


class Watched(Knockoff):
    """Keeps every clone it trained, by the size of its transfer set."""

    def __init__(self, **options):
        super().__init__(**options)
        self.trained = {}

    def _train(self, fresh, answers, recipe, training, kit):
        clone = super()._train(fresh, answers, recipe, training, kit)
        self.trained[len(answers)] = (answers, weights(clone))
        return clone


@pytest.mark.parametrize("policy", ["random", "adaptive"])
@pytest.mark.parametrize("budget", [1, 2, 33, 150])
def test_the_ledger_is_the_budget(fake_oracle, with_pool, policy, budget):
    oracle = fake_oracle(budget, posteriors)
    Knockoff(policy=policy, epochs=1, request=32).attack(oracle, with_pool())
    assert oracle.remaining == 0
    assert sum(oracle.requests) == budget
    assert max(oracle.requests) <= 32
    # never one image a call
    assert len(oracle.requests) == -(-budget // 32)


def test_soft_training_on_one_hot_answers_is_hard_training_bit_for_bit(fake_oracle, with_pool):
    def clone(answer, labels, **options):
        attacker = Knockoff(epochs=3, **options)
        attacker.attack(fake_oracle(50, answer, labels=labels), with_pool())
        return weights(attacker.clone)

    hard = clone(posteriors, "hard")
    assert torch.equal(clone(one_hot, "soft"), hard)
    assert torch.equal(clone(posteriors, "soft", answers="argmax"), hard)
    assert not torch.equal(clone(posteriors, "soft"), hard)


def test_two_budgets_in_one_run_are_two_runs(fake_oracle, with_pool):
    both = Watched(epochs=2, budgets=[40], request=16)
    both.attack(fake_oracle(96, posteriors), with_pool())
    assert set(both.trained) == {40, 96}
    for budget in (40, 96):
        alone = Watched(epochs=2, request=16)
        alone.attack(fake_oracle(budget, posteriors), with_pool())
        assert torch.equal(alone.trained[budget][1], both.trained[budget][1])
        assert torch.equal(alone.trained[budget][0].pixels, both.trained[budget][0].pixels)


def test_no_image_is_asked_twice_before_all_were_asked(fake_oracle, with_pool):
    attacker = Watched(epochs=0)
    attacker.attack(fake_oracle(90, posteriors), with_pool())
    pixels = attacker.trained[90][0].pixels.flatten(1)
    assert len(pixels[:60].unique(dim=0)) == 60
    assert len(pixels.unique(dim=0)) == 60


def test_answers_that_are_no_posteriors_are_normalised(fake_oracle, with_pool):
    def largest_alone(images):
        top = posteriors(images)
        return torch.where(top == top.amax(1, keepdim=True), top, 0.0)

    attacker = Watched(epochs=0)
    attacker.attack(fake_oracle(30, largest_alone), with_pool())
    totals = attacker.trained[30][0].posteriors.sum(1)
    assert torch.allclose(totals, torch.ones(30))


def test_repeats_are_charged_and_halve_the_images(fake_oracle, with_pool):
    oracle = fake_oracle(61, posteriors)
    attacker = Watched(epochs=0, repeats=3)
    attacker.attack(oracle, with_pool())
    assert set(attacker.trained) == {20}
    assert oracle.remaining == 1


def test_the_adaptive_policy_needs_classes(fake_oracle, with_pool):
    with pytest.raises(PlayerError, match="'pool' has one"):
        Knockoff(policy="adaptive").attack(fake_oracle(10), with_pool(pool_of(classes=1)))


def test_the_bandit_comes_to_prefer_what_pays():
    bandit = ClassBandit(5, Streams(0).torch("bandit"))
    for _ in range(60):
        actions = bandit.draw(32)
        bandit.learn(actions, (actions == 2).float().expand(3, -1))
    assert int(bandit.policy.argmax()) == 2
    assert float(bandit.policy[2]) > 0.4


def test_a_step_of_the_bandit_by_hand():
    """Of two classes the first is drawn thrice for rewards 1, 0, 0; the baseline is a third."""
    bandit = ClassBandit(2, Streams(0).torch("bandit"))
    actions, worth = torch.zeros(3, dtype=torch.int64), torch.tensor([1.0, 0, 0]).expand(3, -1)
    bandit.learn(actions, worth)  # gains of 2/9, -1/9, -1/9
    assert bandit.preferences.tolist() == pytest.approx([0, 0], abs=1e-7)
    bandit.learn(torch.tensor([0, 1]), torch.tensor([1.0, 0]).expand(3, -1))
    # rewards 1 and 0, a baseline of 5/12, drawn four times and once: 7/48 and -20/48
    gain = [7 / 48, -20 / 48]
    half = sum(gain) / 2
    assert bandit.preferences.tolist() == pytest.approx([gain[0] - half, gain[1] - half])


def test_the_adaptive_policy_comes_to_ask_the_class_that_pays(fake_oracle, with_pool):
    """Of three kinds of images one gets sure answers of many classes, the others one unsure one."""
    pool = pool_of(count=300)
    paying = {tuple(row) for row in pool.pixels[pool.labels == 1].flatten(1).tolist()}
    asked = []

    def answers(images):
        pays = torch.tensor([
            tuple(row) in paying for row in (images * 255).round().int().flatten(1).tolist()
        ])  # fmt: skip
        asked.append(pays)
        sure = torch.eye(4)[(images[:, 0, 0, 0] * 255).round().long() % 4]
        return torch.where(pays[:, None], sure, torch.tensor([0.28, 0.24, 0.24, 0.24]))

    attacker = Knockoff(policy="adaptive", epochs=0, request=20)
    attacker.attack(fake_oracle(800, answers), with_pool(pool))
    pays = torch.cat(asked).double()
    assert float(pays[:20].mean()) < 0.5
    assert float(pays[-300:].mean()) > 0.6


def test_rewards_are_certainty_novelty_and_loss():
    targets = torch.tensor([[0.7, 0.2, 0.1]])
    worth = rewards(targets, torch.tensor([0.5, 0.3, 0.2]), torch.tensor([1.5]))
    assert worth.flatten().tolist() == pytest.approx([0.5, 0.2, 1.5])


def test_draws_refill_when_they_are_empty():
    draws = Draws(10, Streams(0).torch("draws"))
    taken = torch.cat([draws.take(7), draws.take(7), draws.take(6)])
    assert torch.equal(taken[:10].sort().values, torch.arange(10))
    assert torch.equal(taken[10:].sort().values, torch.arange(10))


def test_recipes_are_those_of_their_sources():
    knockoff, dnf = RECIPES["knockoff"], RECIPES["dnf"]
    assert (knockoff.epochs, knockoff.batch, knockoff.momentum) == (100, 64, 0.5)
    assert knockoff.weight_decay == dnf.weight_decay == 0
    # x0.1 every 60 of 100 epochs; x0.5 every 10 of 30
    assert [knockoff.rate_factor(s, 100) for s in (59, 60)] == pytest.approx([1, 0.1])
    assert [dnf.rate_factor(s, 30) for s in (9, 10, 20)] == pytest.approx([1, 0.5, 0.25])
    assert recipe_for(None, (3, 32, 32)) == RECIPES["grad"]
    assert recipe_for(None, SHAPE, epochs=4).epochs == 4
    with pytest.raises(UnknownName, match="did you mean 'knockoff'"):
        recipe_for("knockof", SHAPE)


@pytest.mark.parametrize("options", [{"request": 0}, {"budgets": [0]}, {"repeats": 0}])
def test_what_cannot_be_played_is_refused(options):
    with pytest.raises(ScenarioError, match="at least 1"):
        Knockoff(**options)


def test_in_distribution_images_teach_more_than_noise():
    splits, cpu = load("digits"), torch.device("cpu")

    def build(seed):
        return registry.build(
            "conv-small",
            num_classes=10,
            image_shape=SHAPE,
            generator=Streams(seed).torch("weights"),
            mean=splits.mean,
            std=splits.std,
        )

    victim = build(0)
    truth = torch.nn.functional.one_hot(splits.train.labels, 10).float()
    known = TransferSet(splits.train.pixels, truth)
    known.train(victim, Recipe(epochs=6, batch=64, learning_rate=0.05), Streams(0).torch("train"))
    victim.eval()
    assert evaluate(victim, splits.test.pixels, splits.test.labels) > 0.9

    class Served:
        threat = ThreatModel(10, SHAPE, 500)
        remaining = 500

        def query(self, images):
            self.remaining -= len(images)
            return Response(predict(victim, images).softmax(1))

    def agreement(pool):
        attacker = Knockoff(epochs=15)
        attacker.attack(
            Served(), Kit(cpu, Streams(1).torch("attacker"), lambda: build(7), {}, pool)
        )
        labels = predict(victim, splits.test.pixels)
        return evaluate(attacker.clone, splits.test.pixels, labels)

    noise = load_pool("noise", image_shape=SHAPE, generator=Streams(2).torch("noise"), count=500)
    assert agreement(splits.validation) > agreement(noise) + 0.1
