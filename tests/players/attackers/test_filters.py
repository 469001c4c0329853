"""Attackers that keep the last exit's answers: by confidence, by time."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.argmax import Argmax
from agents.attackers.confidence_filter import ConfidenceFilter, least_threshold
from agents.attackers.latency_filter import LatencyFilter
from agents.attackers.random_generator import RandomGenerator
from agents.attackers.strategy_thief import StrategyThief
from agents.base import ArchitectureGuess, granted
from agents.defenders.static import Static
from agents.timing_probe.confidence_jumps import first_jump
from envs.data.images import ImageSet
from envs.defences.base import Defence, DeployedDefence
from envs.errors import PlayerError, ScenarioError
from envs.exits.rules import Thresholds
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.latency.model import make_model
from envs.nets import registry
from envs.nets.multi_exit import with_heads
from envs.seeding import Streams
from envs.types import Response, ThreatModel
from envs.victim.victim import Victim

SHAPE, CLASSES = (1, 8, 8), 4


def victim_with_exits(images):
    """A victim that answers half of some images at its first exit, and half of the rest later."""
    weights = Streams(0).torch("weights")
    body = registry.build(
        "conv-small",
        num_classes=CLASSES,
        image_shape=SHAPE,
        generator=weights,
        mean=[0.5],
        std=[0.3],
    )
    network = with_heads(body, generator=weights, exits=[0])
    with torch.no_grad():
        # spreads the answers of untrained layers out
        for e, layer in enumerate((network.head(0).answer, body.classifier)):
            centred = network.forward_all(images)[e]
            layer.weight.mul_(3 / centred.std())
            layer.bias.copy_(-3 / centred.std() * (centred.mean(0) - layer.bias))
        middle = network.forward_all(images)[0].softmax(1).amax(1).median()
    return Victim(network, rule=Thresholds([float(middle)]))


def asked_images(kit, seed=0):
    """What an untrained generator asks with this seed, whatever it is answered."""
    threat = ThreatModel(CLASSES, SHAPE, 500)

    class Blind:
        seen = ()
        remaining = 500

        def query(self, images):
            self.seen, self.remaining = (*self.seen, images), self.remaining - len(images)
            return Response(torch.full((len(images), CLASSES), 1 / CLASSES))

    oracle = Blind()
    oracle.threat = threat
    RandomGenerator(batch=50).attack(oracle, kit(seed))
    return torch.cat(oracle.seen)


def game_with_exits(kit, budget, seed=0, **options):
    streams = Streams(0)
    victim = victim_with_exits(asked_images(kit, seed))
    game = ExtractionGame(
        ThreatModel(CLASSES, SHAPE, budget, latency_visible=True),
        [DeployedDefence("exits", Defence(), victim)],
        Static(),
        clock=make_clock("virtual", streams, model=make_model(**options)),
        streams=streams,
    )
    return victim, GameOracle(game)


def spied(attacker_class):
    """Let an attacker remember the images it kept and those it was shown."""

    class Spied(attacker_class):
        shown, kept = (), ()

        def _learn_kept(self, images, response):
            chosen = self.keep(images, response)
            self.shown, self.kept = (*self.shown, images), (*self.kept, images[chosen])
            super()._learn_kept(images, response)

    return Spied


def exits_of(victim, images):
    return victim.answer(images, generator=Streams(0).torch("unused")).exits


@pytest.mark.parametrize("seed", [0, 1])
def test_every_answer_below_the_threshold_is_the_last_exits(kit, seed):
    victim, oracle = game_with_exits(kit, 1_500, seed)
    threshold = victim.rule.values[0]
    attacker = spied(ConfidenceFilter)(threshold=threshold, generator_steps=0, batch=50)
    attacker.attack(oracle, kit(seed))
    kept, shown = torch.cat(attacker.kept), torch.cat(attacker.shown)
    last = victim.num_exits - 1
    assert 100 < len(kept) < len(shown) == 1_500
    assert (exits_of(victim, kept) == last).all()
    assert (exits_of(victim, shown) < last).any()


def test_every_slow_answer_is_the_last_exits_where_the_clock_is_exact(kit):
    victim, oracle = game_with_exits(kit, 2_000, noise=0.01)
    attacker = spied(LatencyFilter)(generator_steps=0, batch=50, look=300)
    attacker.attack(oracle, kit())
    kept, shown = torch.cat(attacker.kept), torch.cat(attacker.shown)
    last = victim.num_exits - 1
    assert 200 < len(kept) < len(shown) == 2_000
    assert (exits_of(victim, kept) == last).all()
    assert len(kept) == int((exits_of(victim, shown) == last).sum())


def test_one_group_of_latencies_discards_nothing(kit):
    class Padded(LatencyFilter):
        def measure(self, response):
            return torch.full_like(response.latency, 5e-3)

        def keep(self, images, response):
            return self.measure(response) >= self.cut

    _, oracle = game_with_exits(kit, 500)
    attacker = Padded(generator_steps=0, batch=50)
    attacker.attack(oracle, kit())
    assert attacker.cut == 0.0


def test_what_a_campaign_found_is_used(fake_oracle, kit):
    found = replace(kit(), shared_findings={"thresholds": (0.9, 0.7, 1.0), "deepest_latency": 2e-3})
    assert least_threshold(found) == 0.7
    guess = replace(kit(), shared_findings={"inferred": ArchitectureGuess(thresholds=(0.8,))})
    assert least_threshold(guess) == 0.8
    assert least_threshold(kit()) is None
    attacker = ConfidenceFilter(generator_steps=0)
    attacker.attack(fake_oracle(100), found)
    assert attacker.cut == 0.7
    assert LatencyFilter().known(found) == 2e-3


def confidences(count, threshold, early):
    """Late confidences spread over (0.25, 1), early ones over (threshold, 1)."""
    stream = Streams(3).torch("confidences")
    late = 0.25 + 0.75 * torch.rand(count, generator=stream)
    quick = threshold + (1 - threshold) * torch.rand(early, generator=stream)
    return torch.cat([late, quick])


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_the_threshold_shows_as_a_jump_of_the_confidences(threshold):
    found = first_jump(confidences(2_000, threshold, 4_000))
    assert found == pytest.approx(threshold, abs=0.005)


@pytest.mark.parametrize("power", [0.3, 1.0, 4.0])
def test_confidences_without_exits_show_no_jump(power):
    assert first_jump(confidences(4_000, 0.9, 0)) is None
    # smooth ones that crowd at 1 or hardly begin at the floor
    drawn = torch.rand(5_000, generator=Streams(4).torch("smooth"))
    assert first_jump(1 - 0.75 * drawn.pow(power)) is None
    assert first_jump(torch.sigmoid(10 * drawn.pow(power) - 1)) is None


@pytest.mark.parametrize("step", [0.01, 0.02, 0.05])
def test_rounded_confidences_show_the_jump_of_a_threshold_and_no_other(step):
    for seed in range(5):
        torch.manual_seed(seed)
        smooth = torch.softmax(3 * torch.randn(2_000, 10), 1).amax(1)
        assert first_jump((smooth / step).round() * step) is None
    found = first_jump((confidences(2_000, 0.9, 4_000) / step).round() * step)
    assert found == pytest.approx(0.9, abs=step)
    for coarse in (0.1, 0.5):
        assert first_jump((confidences(2_000, 0.9, 4_000) / coarse).round() * coarse) is None


@pytest.mark.parametrize("attacker", [
    lambda: ConfidenceFilter(generator_steps=0, batch=50),
    lambda: StrategyThief(batch=50, look=1_500),
])  # fmt: skip
@pytest.mark.parametrize("constant", [True, False])
def test_a_constant_above_the_jump_is_no_threshold(fake_oracle, kit, constant, attacker):
    def served(images):
        flat = images.flatten(1)
        top = 0.25 + 0.75 * ((flat[:, :7].sum(1) * 1013) % 1)
        early = flat[:, 0] > 0.5
        sure = torch.full_like(top, 0.97) if constant else 0.9 + 0.1 * ((flat[:, 9] * 997) % 1)
        top = torch.where(early, sure, top)[:, None]
        return torch.cat([top, (1 - top).expand(-1, 3) / 3], 1)

    player = attacker()
    player.attack(fake_oracle(6_000, served), kit(clone="conv-small"))
    told = player.inferred and player.inferred.thresholds
    assert told is None if constant else told == pytest.approx((0.9,), abs=0.01)


def test_a_filter_learns_from_rounded_answers(fake_oracle, kit):
    def rounded(images):
        clean = (20 * images.reshape(len(images), 4, -1).mean(2)).softmax(1)
        return (clean * 100).round() / 100

    attacker = spied(ConfidenceFilter)(generator_steps=0, batch=50)
    attacker.attack(fake_oracle(3_000, rounded), kit())
    assert len(torch.cat(attacker.kept)) == 3_000
    assert attacker.inferred is None


@pytest.mark.parametrize("count", [0, 1, 20, 45])
def test_few_confidences_show_nothing(count):
    assert first_jump(torch.linspace(0.3, 0.9, count)) is None


def test_without_a_jump_nothing_is_discarded(fake_oracle, kit):
    attacker = spied(ConfidenceFilter)(generator_steps=0, batch=20)
    attacker.attack(fake_oracle(400), kit())
    assert len(torch.cat(attacker.kept)) == 400
    assert attacker.inferred is None


def test_confident_answers_of_a_dominant_class_are_dropped_and_others_kept(fake_oracle, kit):
    def collapsed(images):
        # three in four are surely of class 0, the others surely of class 1 to 3
        mark = (images[:, 0, 0, 0] * 997).floor().long()
        labels = torch.where(mark % 4 > 0, 0, 1 + mark % 3)
        return 0.96 * torch.nn.functional.one_hot(labels, 4) + 0.01

    kept = []

    class Spied(ConfidenceFilter):
        def learn(self, images, targets):
            kept.append(targets.argmax(1))
            return super().learn(images, targets)

    Spied(threshold=0.9, constant=2.0, generator_steps=0, batch=50).attack(
        fake_oracle(500, collapsed), kit()
    )
    labels = torch.cat(kept)
    assert len(labels) > 50
    assert (labels != 0).all()


def test_aversion_lowers_the_confidence_of_what_is_asked(game, kit):
    def confidence(aversion):
        attacker = ConfidenceFilter(
            threshold=0.2,
            aversion=aversion,
            batch=16,
            generator_steps=5,
            clone_steps=1,
            generator_rate=3e-3,
            clone_rate=1e-12,
        )
        attacker.attack(game(15 * 16 * 11)[1], kit())
        with torch.no_grad():
            logits = attacker.clone(attacker.synthesiser.images(400))
        return float(logits.softmax(1).amax(1).mean())

    assert confidence(300.0) < confidence(0.0) - 0.005


def test_images_can_come_from_the_pool(fake_oracle, kit):
    pixels = torch.zeros(10, *SHAPE, dtype=torch.uint8)
    pixels[:, 0, 0, 0] = torch.arange(10)
    pool = ImageSet(pixels, torch.zeros(10, dtype=torch.int64), 1, "pool", ("x",))
    seen = []
    attacker = ConfidenceFilter(images="pool", batch=5)
    with pytest.raises(PlayerError, match="needs pool"):
        granted(attacker, labels="soft", latency_visible=False, pool=False)
    attacker.attack(fake_oracle(20, listen=seen.append), replace(kit(), surrogate_pool=pool))
    asked = (torch.cat(seen)[:, 0, 0, 0] * 255).round().long()
    assert torch.equal(torch.bincount(asked), torch.full((10,), 2))


@pytest.mark.parametrize(
    "options", [{"threshold": 0.0}, {"look": 0}, {"aversion": -1.0}, {"images": "mine"}]
)
def test_what_cannot_be_played_is_refused(options):
    with pytest.raises(ScenarioError, match="expected"):
        ConfidenceFilter(**options)


def test_argmax_learns_the_same_from_soft_answers_as_from_labels(fake_oracle, kit):
    def posteriors(images):
        quarters = images.reshape(len(images), 4, -1).mean(2)
        return (20 * quarters).softmax(1)

    def clone(labels):
        attacker = Argmax(batch=10)
        granted(attacker, labels=labels, latency_visible=False, pool=False)
        attacker.attack(fake_oracle(300, posteriors, labels=labels), kit())
        return torch.cat([p.detach().flatten() for p in attacker.clone.parameters()])

    assert torch.equal(clone("soft"), clone("hard"))


def test_argmax_spends_what_dfme_spends(fake_oracle, kit):
    oracle = fake_oracle(140)
    Argmax(batch=10).attack(oracle, kit())
    assert oracle.requests == [20, 10, 10, 10, 10, 10] * 2
