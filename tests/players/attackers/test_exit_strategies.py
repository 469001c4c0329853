"""Attackers on the exits themselves: one copies them, one keeps queries from leaving early."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.latency_filter import LatencyFilter
from agents.attackers.slowdown import Slowdown
from agents.attackers.strategy_thief import StrategyThief
from agents.learning.multi_exit_clone import Gated
from envs.errors import ScenarioError
from envs.nets import registry
from envs.seeding import Streams
from envs.types import Response

SECONDS = torch.tensor([1e-3, 2.5e-3, 5e-3], dtype=torch.float64)
THRESHOLDS = (0.6, 0.7)


def exits_of(images):
    """The exit of an image, by its brightness: what a network that averages can learn."""
    brightness = images.flatten(1).mean(1)
    return (brightness > 0.50).long() + (brightness > 0.52).long()


def answers_of(images):
    """Confidences above the threshold of an early exit, anything at the last one."""
    exits = exits_of(images)
    chance = (images.flatten(1)[:, :7].sum(1) * 1013) % 1  # a function of the image
    floor = torch.tensor([*THRESHOLDS, 0.3])[exits]
    top = floor + (0.99 - floor) * chance
    labels = (images[:, 0, :2].sum((1, 2)) * 97).long() % 4
    rest = ((1 - top) / 3)[:, None].expand(-1, 4)
    return rest.scatter(1, labels[:, None], top[:, None])


@pytest.fixture
def timed(fake_oracle):
    """An oracle that shows how long its three exits take."""

    class Timed(fake_oracle):
        def __init__(self, budget, noise=0.01, visible=True):
            super().__init__(budget, answers_of)
            self.threat = replace(self.threat, latency_visible=visible)
            self._noise, self._chance = noise, Streams(0).torch("noise")

        def query(self, images):
            response = super().query(images)
            factor = torch.randn(len(images), generator=self._chance).double() * self._noise
            latency = SECONDS[exits_of(images)] * factor.exp()
            return Response(response.posteriors, latency if self.threat.latency_visible else None)

    return Timed


def test_exits_and_thresholds_are_stolen_by_the_clock(timed, kit):
    kit = kit(clone="conv-small")
    attacker = StrategyThief(batch=50, look=3_000)
    attacker.attack(timed(3_500), kit)
    assert attacker.inferred.exits_visited == 3
    # a hundredth of strays lifts a threshold by up to 0.004, and 1,000 answers err by 0.0013
    assert attacker.inferred.thresholds == pytest.approx(THRESHOLDS, abs=0.008)
    assert kit.shared_findings["thresholds"] == attacker.inferred.thresholds
    assert 2.5e-3 < kit.shared_findings["deepest_latency"] < 5e-3
    assert isinstance(attacker.clone, Gated)


def test_what_the_clock_does_not_tell_apart_is_unknown(timed, kit):
    """Exits half as far apart as the noise reaches, and answers that all take one time."""
    for noise in (0.6, 0.0):
        oracle = timed(900, noise=noise)
        if not noise:
            oracle.query = held_back(oracle.query)
        attacker = StrategyThief(batch=50, look=300)
        attacker.attack(oracle, kit(clone="conv-small"))
        guess = attacker.inferred
        assert (guess.exits_visited, guess.thresholds, guess.confidence) == (None, None, {})


def test_early_answers_that_are_all_alike_tell_no_threshold(timed, kit):
    class Constant(timed):
        def query(self, images):
            answered = super().query(images)
            alike = torch.tensor([0.91, 0.03, 0.03, 0.03]).expand_as(answered.posteriors)
            early = (exits_of(images) < 2)[:, None]
            return Response(torch.where(early, alike, answered.posteriors), answered.latency)

    attacker = StrategyThief(batch=50, look=600)
    attacker.attack(Constant(1800), kit(clone="conv-small"))
    assert (attacker.inferred.exits_visited, attacker.inferred.thresholds) == (3, None)


def held_back(query):
    def held(images):
        answered = query(images)
        return Response(answered.posteriors, torch.full_like(answered.latency, 8e-3))

    return held


@pytest.mark.parametrize("attacker", [
    StrategyThief(batch=50, look=300),
    LatencyFilter(batch=16, look=100, generator_steps=0),
])  # fmt: skip
def test_a_clock_that_shows_no_time_for_some_is_read(timed, kit, attacker):
    class Slow(timed):
        def query(self, images):
            answered = super().query(images)
            return Response(answered.posteriors, (answered.latency / 4e-3).floor() * 4e-3)

    attacker.attack(Slow(900), kit(clone="conv-small"))
    assert attacker.clone is not None
    assert attacker.inferred is None or attacker.inferred.exits_visited is None


def test_a_gated_clone_with_dropout_is_the_same_whatever_else_the_process_drew(timed, kit):
    def stolen(shared):
        attacker = StrategyThief(batch=50, look=300)
        torch.manual_seed(shared)
        attacker.attack(timed(900), kit(clone="mobilenetv2-small", dropout=0.2))
        assert isinstance(attacker.clone, Gated)
        return attacker.clone.state_dict()

    one, other = stolen(1), stolen(2)
    assert all(torch.equal(weights, other[name]) for name, weights in one.items())


@pytest.mark.slow
def test_the_gates_learn_who_leaves_where(timed, kit):
    attacker = StrategyThief(batch=50, look=1_000)
    attacker.attack(timed(12_000), kit(clone="conv-small"))
    images = attacker.synthesiser.images(500)
    predicted, real = attacker.clone.both(images)[1].argmax(1), exits_of(images)
    commonest = float(torch.bincount(real).max()) / len(real)
    assert commonest < 0.8
    assert float((predicted == real).float().mean()) > commonest + 0.1


def test_without_a_clock_the_jump_of_confidences_is_all_there_is(timed, kit):
    attacker = StrategyThief(batch=50, look=3_000)
    attacker.attack(timed(9_000, visible=False), kit(clone="conv-small"))
    assert attacker.inferred.exits_visited is None
    assert attacker.inferred.thresholds == pytest.approx([min(THRESHOLDS)], abs=0.02)
    # sure answers are the early ones
    assert attacker.exits_of(torch.tensor([0.4, 0.95])).tolist() == [1, 0]


def test_a_victim_without_exits_gets_a_plain_clone(fake_oracle, kit):
    attacker = StrategyThief(batch=50)
    attacker.attack(fake_oracle(500), kit(clone="conv-small"))
    assert not isinstance(attacker.clone, Gated)
    assert attacker.inferred.thresholds is None


def test_a_gated_clone_answers_with_the_exit_its_gates_choose():
    body = registry.build(
        "conv-small",
        num_classes=4,
        image_shape=(1, 8, 8),
        generator=Streams(0).torch("weights"),
        mean=[0.5],
        std=[0.3],
    )
    assert Gated(body, 9, generator=Streams(1).torch("gates")).num_exits == 3
    gated = Gated(body, 3, generator=Streams(1).torch("gates")).eval()
    images = torch.rand(6, 1, 8, 8, generator=Streams(2).torch("images"))
    with torch.no_grad():
        logits, leaving = gated.both(images)
        assert torch.allclose(leaving.exp().sum(1), torch.ones(6))
        for exit_index in range(gated.num_exits):
            for e, gate in enumerate(gated.gates):
                gate.bias.fill_(50.0 if e == exit_index else -50.0)
            assert (gated.both(images)[1].argmax(1) == exit_index).all()
            assert torch.allclose(gated(images), logits[exit_index])


@pytest.mark.parametrize("attack", [StrategyThief, Slowdown])
@pytest.mark.parametrize("budget", [1, 2, 51])
def test_any_budget_is_spent(fake_oracle, kit, attack, budget):
    oracle = fake_oracle(budget)
    attack(batch=10).attack(oracle, kit(clone="resnet10-half"))
    assert oracle.remaining == 0


def test_slow_queries_leave_later_than_the_same_images_unmoved(game, kit):
    def confidence(steps):
        _, oracle = game(3_000)
        attacker = Slowdown(batch=32, clone_rate=0.2, steps=steps, epsilon=0.15)
        kept = []
        query = oracle.query

        class Listening:
            threat = oracle.threat

            @property
            def remaining(self):
                return oracle.remaining

            def query(self, images):
                response = query(images)
                kept.append(response.posteriors.amax(1))
                return response

        attacker.attack(Listening(), kit())
        return float(torch.cat(kept)[-1_000:].mean())

    # the victim would leave early where it is sure
    assert confidence(10) < confidence(0) - 0.03


def test_images_move_within_their_box(fake_oracle, kit):
    attacker = Slowdown(batch=20, epsilon=0.05, steps=4, learn=0.0)
    attacker.attack(fake_oracle(40), kit())
    images = torch.rand(20, 1, 8, 8, generator=Streams(4).torch("images"))
    moved = attacker.slowed(images)
    assert 0.04 < float((moved - images).abs().max()) <= 0.05 + 1e-6
    assert 0 <= float(moved.min()) <= float(moved.max()) <= 1


@pytest.mark.parametrize("options", [{"learn": 2.0}, {"epsilon": -1.0}, {"images": "mine"}])
def test_what_cannot_be_played_is_refused(options):
    with pytest.raises(ScenarioError, match="expected"):
        Slowdown(**options)
