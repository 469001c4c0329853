"""DFME: its ledger, its two steps, its hooks."""

import pytest
import torch

from agents.attackers.dfme import DFME
from agents.attackers.random_generator import RandomGenerator
from agents.base import Kit, granted
from agents.defenders.static import Static
from agents.learning.schedules import Settings
from envs.data.sources import load
from envs.defences.base import Defence, DeployedDefence
from envs.errors import PlayerError, ScenarioError
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.training.recipes import recipe_for
from envs.training.victims import VictimTraining, train_victim
from envs.types import ThreatModel
from envs.victim.victim import Victim

SMALL = {"batch": 8}
COST = 8 * 7


class Paper(DFME):
    """DFME's loop and ledger without its networks, to play out a budget of millions."""

    def generator_step(self, oracle, kit):
        self._ask(oracle, self.settings.batch * (self.settings.directions + 1))

    def clone_step(self, oracle, kit, count):
        self._ask(oracle, count)

    def _ask(self, oracle, count):
        oracle.query(range(count))


@pytest.mark.parametrize(
    ("budget", "batch", "directions", "cost", "iterations"),
    [
        (20_000_000, 256, 1, 1_792, 11_160),
        (2_000_000, 256, 1, 1_792, 1_116),
        (200_000_000, 256, 5, 2_816, 71_022),
        (20_000_000, 256, 5, 2_816, 7_102),
        (20_000_000, 64, 1, 448, 44_642),
        (500_000, 64, 1, 448, 1_116),
    ],
)
def test_the_loop_stops_where_the_published_ledger_stops(
    fake_oracle, kit, budget, batch, directions, cost, iterations
):
    class Ledger(fake_oracle):
        """Counts without answering: half a million requests in a test."""

        def query(self, images):
            assert len(images) <= self.remaining
            self.remaining -= len(images)

    attacker = Paper(batch=batch, directions=directions, spend_rest=False)
    oracle = Ledger(budget)
    attacker.attack(oracle, kit())
    assert attacker.settings.cost == cost
    assert attacker.iterations == iterations
    assert oracle.remaining == budget - iterations * cost
    assert oracle.remaining < cost


@pytest.mark.parametrize("directions", [1, 3])
def test_an_iteration_asks_what_the_ledger_says(fake_oracle, kit, directions):
    settings = Settings(batch=8, directions=directions)
    oracle = fake_oracle(2 * settings.cost)
    DFME(batch=8, directions=directions).attack(oracle, kit())
    assert oracle.requests == [8 * (directions + 1), *[8] * 5] * 2
    assert oracle.remaining == 0


@pytest.mark.parametrize("attack", [DFME, RandomGenerator])
def test_the_generator_takes_a_width(fake_oracle, kit, attack):
    sizes = []
    for width in (None, 0.5):
        attacker = attack(batch=8, generator_width=width)
        attacker.prepare(fake_oracle(COST), kit())
        network = attacker.synthesiser.network
        sizes.append(sum(weights.numel() for weights in network.body.parameters()))
    assert sizes[0] / 5 < sizes[1] < sizes[0] / 3  # convolutions shrink to a quarter
    with pytest.raises(ScenarioError, match="expected generator_width above 0, got -1"):
        attack(generator_width=-1).prepare(fake_oracle(COST), kit())


@pytest.mark.parametrize(
    ("budget", "rest"),
    [(COST + 19, [8, 8, 3]), (COST + 17, [8, 8, 1]), (7, [7]), (1, [1]), (COST - 1, [8] * 6 + [7])],
)
def test_the_rest_of_the_budget_goes_into_clone_steps(fake_oracle, kit, budget, rest):
    oracle = fake_oracle(budget)
    DFME(**SMALL).attack(oracle, kit(clone="resnet10-half"))
    whole = budget // COST
    assert oracle.requests == [16, 8, 8, 8, 8, 8] * whole + rest
    assert oracle.remaining == 0


def test_without_spending_the_rest_the_loop_stops_as_published(fake_oracle, kit):
    oracle = fake_oracle(2 * COST + 55)
    DFME(**SMALL, spend_rest=False).attack(oracle, kit())
    assert oracle.remaining == 55


def test_the_clone_is_still_in_the_generators_step_and_learns_in_its_own(fake_oracle, kit):
    seen = []

    class Watched(DFME):
        def prepare(self, oracle, kit):
            super().prepare(oracle, kit)
            self.clone.register_forward_pre_hook(
                lambda net, inputs: seen.append((len(inputs[0]), net.training, self.synthesising()))
            )

        def synthesising(self):
            return self.synthesiser.network.training

    attacker = Watched(**SMALL)
    attacker.attack(fake_oracle(COST + 3), kit())
    # (images, the clone's mode, the generator's mode, which is train throughout)
    assert seen == [(16, False, True), *[(8, True, True)] * 5, (3, True, True)]
    assert not attacker.clone.training


def test_only_the_generator_moves_in_its_step_and_only_the_clone_in_its_own(game, kit):
    attacker = DFME(**SMALL)
    _, oracle = game(10_000)
    kit = kit()
    attacker.prepare(oracle, kit)

    def weights(network):
        return torch.cat([p.detach().flatten() for p in network.parameters()]).clone()

    clone, generator = weights(attacker.clone), weights(attacker.synthesiser.network)
    attacker.generator_step(oracle, kit)
    assert torch.equal(weights(attacker.clone), clone)
    assert not torch.equal(weights(attacker.synthesiser.network), generator)
    generator = weights(attacker.synthesiser.network)
    attacker.clone_step(oracle, kit, 8)
    assert not torch.equal(weights(attacker.clone), clone)
    assert torch.equal(weights(attacker.synthesiser.network), generator)


def test_the_generator_raises_the_disagreement_with_a_clone_that_stands_still(game, kit):
    reports = []
    _, oracle = game(40 * 16 * (5 * 3 + 1))
    DFME(
        batch=16,
        generator_steps=5,
        clone_steps=1,
        directions=2,
        generator_rate=3e-3,
        clone_rate=1e-12,
        epoch_length=10,
        milestones=[],
    ).attack(oracle, kit(reports=reports))
    losses = [report["generator_loss"] for report in reports]
    assert len(losses) == 4
    assert losses[-1] < 1.2 * losses[0] < 0  # the loss is minus the disagreement


def test_the_clone_learns_to_agree_with_the_victim(game, kit, agrees):
    match, oracle = game(10_000)
    attacker = DFME(batch=32, generator_rate=1e-4)
    attacker.attack(oracle, kit())
    assert agrees(match, kit().new_clone()) < 0.4
    assert agrees(match, attacker.clone) > 0.65


def test_the_victim_never_receives_a_gradient(game, kit):
    match, oracle = game(3 * COST)
    network = match.deployed_defences[0].victim.network
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    DFME(**SMALL).attack(oracle, kit())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    assert all(torch.equal(w, before[name]) for name, w in network.state_dict().items())


def test_a_seed_gives_the_same_clone_and_another_seed_another(game, kit):
    def clone(seed):
        attacker = DFME(**SMALL)
        attacker.attack(game(2 * COST + 5)[1], kit(seed))
        return torch.cat([p.detach().flatten() for p in attacker.clone.parameters()])

    first = clone(0)
    assert torch.equal(first, clone(0))
    assert not torch.equal(first, clone(1))


def test_autocast_and_tf32_stop_the_attack_at_the_generators_step(game, kit):
    with torch.autocast("cpu"), pytest.raises(PlayerError, match="autocast"):
        DFME(**SMALL).attack(game(COST)[1], kit())
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(PlayerError, match="true float32"):
            DFME(**SMALL).attack(game(COST)[1], kit())
    finally:
        torch.set_float32_matmul_precision(before)


def test_cudnns_tf32_is_off_in_the_generators_step_alone(fake_oracle, kit, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    seen = []

    def listen(images):
        seen.append((len(images), torch.backends.cudnn.allow_tf32))

    DFME(**SMALL).attack(fake_oracle(COST, listen=listen), kit())
    assert seen == [(16, False), *[(8, True)] * 5]
    assert torch.backends.cudnn.allow_tf32


def test_jumps_of_the_answers_are_reported(fake_oracle, kit):
    def edge(images):
        # answers jump for the few images whose first pixel crosses one of many edges
        top = torch.where((400 * images[:, 0, 0, 0]).floor() % 2 == 0, 0.9999, 0.26)
        return torch.stack([top, *[(1 - top) / 3] * 3], 1)

    def jump_share(posteriors):
        reports = []
        oracle = fake_oracle(4 * 128 * 7, posteriors)
        DFME(batch=128).attack(oracle, kit(reports=reports))
        return sum(report["jump_share"] for report in reports)

    assert jump_share(edge) > 0
    assert jump_share(None) == 0


def test_reports_come_once_an_epoch(fake_oracle, kit):
    reports = []
    DFME(**SMALL, epoch_length=4).attack(fake_oracle(10 * COST), kit(reports=reports))
    assert len(reports) == 3
    assert set(reports[0]) == {"generator_loss", "jump_share", "clone_loss"}


def test_rates_fall_at_their_fractions_of_the_epochs(fake_oracle, kit):
    rates = []

    class Watched(DFME):
        def begin_epoch(self, epoch, kit):
            super().begin_epoch(epoch, kit)
            optimizers = (self.trainer.optimizer, self.synthesiser.optimizer)
            rates.append(tuple(o.param_groups[0]["lr"] for o in optimizers))

    attacker = Watched(**SMALL, epoch_length=1, milestones=[0.5, 0.8], clone_rate=0.1)
    attacker.attack(fake_oracle(9 * COST), kit())  # 10 epochs, the last of them empty
    clone = [rate for rate, _ in rates]
    assert clone == pytest.approx([0.1] * 4 + [0.03] * 3 + [0.009] * 2)
    assert [rate for _, rate in rates] == pytest.approx([0.01 * rate for rate in clone], rel=0.01)


def test_keep_chooses_what_the_clone_learns_from(fake_oracle, kit):
    learned = []

    class Filtered(RandomGenerator):
        def keep(self, images, response):
            return response.posteriors[:, 0] > 0.5

        def disagreement(self, logits, targets):
            learned.append(targets)
            return super().disagreement(logits, targets)

    def posteriors(images):
        top = images.flatten(1).mean(1).clamp(0.01, 0.99)
        return torch.stack([top, *[(1 - top) / 3] * 3], 1)

    oracle = fake_oracle(400, posteriors)
    Filtered(batch=20).attack(oracle, kit())
    targets = torch.cat(learned)
    assert oracle.remaining == 0
    assert 0 < len(targets) < 400
    assert float(targets[:, 0].min()) > 0.5


def test_keeping_nothing_leaves_the_clone_as_it_was(fake_oracle, kit):
    class Picky(RandomGenerator):
        def keep(self, images, response):
            return torch.zeros(len(images), dtype=torch.bool)

    attacker = Picky(batch=20)
    attacker.attack(fake_oracle(100), kit())
    fresh = kit().new_clone().state_dict()
    assert all(torch.equal(w, fresh[name]) for name, w in attacker.clone.state_dict().items())


def test_a_generator_step_without_queries_leaves_them_to_the_clone(fake_oracle, kit):
    class WhiteBox(DFME):
        """The generator raises the clone's own entropy and asks nobody."""

        def iteration_cost(self, settings):
            return settings.batch * settings.clone_steps

        def generator_step(self, oracle, kit):
            images = self.synthesiser.network(self.synthesiser.network.draw(8, kit.generator))
            logs = self.trainer.clone.eval()(images).log_softmax(1)
            self.synthesiser.descend((logs.exp() * logs).sum(1).mean())

    oracle = fake_oracle(3 * 40)
    attacker = WhiteBox(**SMALL)
    attacker.attack(oracle, kit())
    assert attacker.iterations == 3
    assert oracle.requests == [8] * 15


def test_hard_labels_are_refused_before_the_first_query():
    with pytest.raises(PlayerError, match="DFME needs soft-labels"):
        granted(DFME(), labels="hard", latency_visible=False, pool=False)


def test_the_control_trains_no_generator_and_costs_clone_steps_alone(fake_oracle, kit):
    oracle = fake_oracle(2 * 40)
    weights = []

    class Watched(RandomGenerator):
        def clone_step(self, oracle, kit, count):
            weights.append([p.clone() for p in self.synthesiser.network.parameters()])
            super().clone_step(oracle, kit, count)

    attacker = Watched(**SMALL)
    attacker.attack(oracle, kit())
    assert attacker.settings.cost == 40
    assert oracle.requests == [8] * 10
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[-1], strict=True))


@pytest.mark.parametrize("labels", ["soft", pytest.param("hard", marks=pytest.mark.slow)])
def test_the_control_plays_with_soft_and_hard_labels(game, kit, agrees, labels):
    match, oracle = game(8_000, labels)
    attacker = RandomGenerator(batch=32)
    granted(attacker, labels=labels, latency_visible=False, pool=False)
    attacker.attack(oracle, kit())
    assert agrees(match, attacker.clone) > 0.6


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_half_a_million_queries_copy_the_digits_victim_to_95_percent():
    """The whole attack at its defaults; minutes to a quarter of an hour on one thread."""
    splits, streams, cpu = load("digits"), Streams(0), torch.device("cpu")
    spec = VictimTraining(
        network="resnet10", params={}, recipe=recipe_for(splits.image_shape), seed=0
    )
    victim = Victim(MultiExit(train_victim(splits, spec, device=cpu), ()))
    game = ExtractionGame(
        ThreatModel(10, (1, 8, 8), 500_000),
        [DeployedDefence("none", Defence(), victim)],
        Static(),
        clock=make_clock("none", streams),
        streams=streams,
    )
    weights = streams.torch("clone")
    attacker = DFME()
    attacker.attack(
        GameOracle(game),
        Kit(
            device=cpu,
            generator=streams.torch("attacker"),
            new_clone=lambda: registry.build(
                "resnet10-half",
                num_classes=10,
                image_shape=(1, 8, 8),
                generator=weights,
                mean=splits.mean,
                std=splits.std,
            ),
        ),
    )
    with torch.no_grad():
        labels = attacker.clone(splits.test.images()).argmax(1)
    assert game.used == 500_000
    assert float((labels == splits.test.labels).float().mean()) >= 0.95
