"""DFMS-HL: its phases, its ledger, its diversity loss, and that it reads labels alone."""

import math
from contextlib import nullcontext

import pytest
import torch

from agents.attackers.dfms_hl import DFMSHL, Phases, _factor
from agents.base import granted
from agents.learning.ensemble import diversity
from agents.learning.transfer_set import TransferSet, balanced_accuracy, macro_f1
from agents.learning.weight_averages import Averages
from envs.errors import PlayerError, ScenarioError

QUICK = {"gan_epochs": 1, "clone_epochs": 2, "diversity_epochs": 1, "pool": 64, "batch": 16}


def posteriors(images):
    quarters = images.reshape(len(images), 4, -1).mean(2)
    return (20 * quarters).softmax(1)


def weights(clone):
    return torch.cat([p.detach().flatten() for p in clone.parameters()])


def test_the_diversity_loss_is_minus_log_k_when_even_and_0_for_one_class():
    even = diversity(torch.eye(5) * 60)
    one = diversity(torch.tensor([[60.0, 0, 0, 0, 0]]).repeat(5, 1))
    assert float(even) == pytest.approx(-math.log(5), abs=1e-6)
    assert float(one) == pytest.approx(0, abs=1e-6)


def test_the_diversity_loss_has_a_slope_where_a_class_never_occurs():
    logits = torch.tensor([[0.0, 1.0, -300.0]], requires_grad=True)
    diversity(logits).backward()
    assert torch.isfinite(logits.grad).all()


def test_the_published_phases_cost_what_is_published():
    phases = Phases.of((3, 32, 32))
    assert phases.pool * phases.alternating_epochs == 7_500_000
    assert phases.within(10**8, drawn=0.5) == phases


def test_phases_shrink_with_the_budget_and_leave_most_to_the_alternating_one():
    phases = Phases.of((1, 8, 8)).within(10_000, drawn=0.5)
    labelled = round(phases.initial * 1.5) + phases.validation
    assert labelled < 1_000
    assert phases.pool < 250


def test_every_label_is_in_the_ledger_and_augmentation_adds_none(fake_oracle, kit):
    oracle = fake_oracle(1_000, posteriors)
    attacker = DFMSHL(**QUICK, initial=200, validation=100)
    attacker.attack(oracle, kit())
    phases = attacker.phases
    drawn = round(phases.initial / 2)
    first = min(round(phases.initial * 0.5), len(attacker.pool))
    before = [count for count in (first, drawn, drawn) if count]
    assert oracle.requests[: len(before)] == before
    assert oracle.requests[-1] == phases.validation
    alternating = oracle.requests[len(before) : -1]
    assert sum(alternating) == 1_000 - sum(before) - phases.validation
    assert set(alternating[:-1]) == {16}
    assert oracle.remaining == 0


@pytest.mark.parametrize("budget", [1, 5, 90])
def test_any_budget_is_played_to_its_end(fake_oracle, kit, budget):
    oracle = fake_oracle(budget, posteriors)
    DFMSHL(**QUICK).attack(oracle, kit(clone="resnet10-half"))
    assert oracle.remaining == 0


@pytest.mark.slow
def test_soft_and_hard_answers_give_one_clone_and_so_does_noise_that_keeps_the_top(
    fake_oracle, kit
):
    def flattened(images):
        return 0.2 / 4 + 0.8 * posteriors(images)

    def clone(answer, labels):
        attacker = DFMSHL(**QUICK, validation=20)
        attacker.attack(fake_oracle(300, answer, labels=labels), kit())
        return weights(attacker.clone)

    soft = clone(posteriors, "soft")
    assert torch.equal(clone(posteriors, "hard"), soft)
    assert torch.equal(clone(flattened, "soft"), soft)


class Lopsided(torch.nn.Module):
    """A clone that tells quarters of an image apart, and likes the first one best."""

    def forward(self, images):
        quarters = images.reshape(len(images), 4, -1).mean(2)
        return 20 * quarters + torch.tensor([0.5, 0, 0, 0])


def test_spreading_raises_the_entropy_of_the_clones_classes(fake_oracle, kit):
    attacker = DFMSHL(pool=64, gan_epochs=1, diversity_epochs=30)
    attacker._prepare(fake_oracle(10**6), kit())
    attacker.clone = Lopsided()

    def entropy():
        labels = attacker.clone(attacker.gan.sample(400)).argmax(1)
        shares = torch.bincount(labels, minlength=4) / 400
        return float(-torch.special.xlogy(shares, shares).sum())

    before = entropy()
    attacker.spread()
    assert before < 1.2
    assert before + 0.1 < entropy() <= math.log(4)


class Fixed(torch.nn.Module):
    """A clone of three classes that answers by the mean pixel, or its opposite."""

    def __init__(self, *slopes):
        super().__init__()
        self.slopes = torch.nn.Parameter(torch.tensor(slopes))

    def forward(self, images):
        return images.mean((1, 2, 3))[:, None] * self.slopes


def test_the_generators_loss_is_the_published_one_of_three_classes(fake_oracle, kit, monkeypatch):
    attacker = DFMSHL(pool=64, gan_epochs=1)
    attacker._prepare(fake_oracle(10**6), kit())
    attacker.clone = Fixed(math.log(4.0), math.log(2.0), 0.0)  # on white images 4 : 2 : 1
    descended = []
    monkeypatch.setattr(
        attacker.gan.synthesiser, "descend", lambda loss: descended.append(loss.item())
    )
    monkeypatch.setattr(attacker.gan.discriminator, "logits", lambda images: torch.full((5,), 1.5))
    one_sided = attacker._move_generator(torch.ones(5, 1, 8, 8), 10.0)
    expected = sum(share / 7 * math.log(share / 7) for share in (4, 2, 1))
    assert float(one_sided) == pytest.approx(expected)
    # to be taken for real costs log(1 + e^-1.5)
    assert descended == pytest.approx([math.log(1 + math.exp(-1.5)) + 10 * expected])


def test_the_alternating_phase_weighs_diversity_as_told(fake_oracle, kit, monkeypatch):
    weights = []

    def note(self, drawn, weight):
        weights.append(weight)

    monkeypatch.setattr(DFMSHL, "_move_generator", note)
    attacker = DFMSHL(**QUICK, initial=20, validation=10, diversity=7.0, last_diversity=300.0)
    attacker.attack(fake_oracle(100, posteriors), kit())
    assert weights == [7.0] * 4 + [300.0] * len(weights[4:])
    assert len(weights) > 5


def test_the_average_that_agrees_best_is_handed_in(fake_oracle, kit):
    def brightest(images):
        return torch.eye(3)[(images.mean((1, 2, 3)) < 0.5).long()]

    attacker, lent = DFMSHL(pool=64, gan_epochs=1, validation=100), kit()
    oracle = fake_oracle(100_000, brightest, classes=3)
    attacker._prepare(oracle, lent)
    attacker.clone = Fixed(0.0, 0.0, 1.0)
    attacker._averages = Averages(attacker.clone, [0.0, 0.5, 0.9])
    right, wrong = torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    for network, slopes in zip(attacker._averages.networks, (wrong, right, wrong), strict=True):
        network.slopes.copy_(slopes)
    attacker._choose(oracle, lent)
    assert torch.equal(attacker.clone.slopes, right)
    assert attacker.clone.slopes.requires_grad


def test_the_rate_rises_for_a_while_and_falls_along_a_cosine():
    rates = [_factor(step, 10, 2) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[6] == pytest.approx(0.5)
    assert rates[9] == pytest.approx(0.5 * (1 + math.cos(math.pi * 7 / 8)))


def test_the_proxy_pool_of_the_scenario_must_be_lent():
    attacker = DFMSHL(proxy="pool")
    with pytest.raises(PlayerError, match="needs pool"):
        granted(attacker, labels="hard", latency_visible=False, pool=False)
    granted(DFMSHL(), labels="hard", latency_visible=False, pool=False)


@pytest.mark.parametrize("options", [{"drawn": 1.5}, {"batch": 1}, {"proxy": "cats"}])
def test_what_cannot_be_played_is_refused(options):
    with pytest.raises(ScenarioError, match="expected"):
        DFMSHL(**options)


def test_averages_follow_by_their_decays():
    net = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(net.weight)
    averages = Averages(net, [0.0, 0.5, 0.9])
    torch.nn.init.ones_(net.weight)
    averages.update()
    averages.update()
    assert [float(each.weight) for each in averages.networks] == pytest.approx([1, 0.75, 0.19])


def test_balanced_accuracy_counts_classes_alike_and_only_those_that_occur():
    class First(torch.nn.Module):
        def forward(self, images):
            return torch.tensor([1.0, 0, 0]).repeat(len(images), 1)

    labels = torch.tensor([0, 0, 0, 1])
    held = TransferSet(
        torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.nn.functional.one_hot(labels, 3).float()
    )
    assert balanced_accuracy(First(), held) == 0.5


def test_agreement_by_classes_is_worked_by_hand():
    """Of labels 0, 0, 0, 1 the clone says 0, 0, 1, 1."""
    labels, guesses = torch.tensor([0, 0, 0, 1]), torch.eye(3)[[0, 0, 1, 1]]
    pixels = torch.zeros(4, 1, 2, 2, dtype=torch.uint8)
    held = TransferSet(pixels, torch.eye(3)[labels])

    class Guessing(torch.nn.Module):
        def forward(self, images):
            return guesses

    assert balanced_accuracy(Guessing(), held) == pytest.approx((2 / 3 + 1) / 2)
    # precision 1 and recall 2/3; precision 1/2 and recall 1
    assert macro_f1(Guessing(), held) == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_labels_that_cost_just_the_budget_are_bought(fake_oracle, kit):
    """Ten for the pool, half as many for drawn images, and five to validate with."""
    for budget, refused in ((20, False), (19, True)):
        attacker = DFMSHL(initial=10, validation=5, drawn=0.5)
        with (
            pytest.raises(ScenarioError, match="cost 20 of a budget of 19")
            if refused
            else (nullcontext())
        ):
            attacker._prepare(fake_oracle(budget), kit())


def test_the_last_clone_moves_at_the_rate_of_the_alternating_phase(fake_oracle, kit, monkeypatch):
    """Warmed up from a hundredth, and never at the rate that clones are trained with."""
    rates = []
    step = DFMSHL._clone_step

    def watched(self, oracle, trainer, drawn):
        rates.append(trainer.optimizer.param_groups[0]["lr"])
        return step(self, oracle, trainer, drawn)

    monkeypatch.setattr(DFMSHL, "_clone_step", watched)
    attacker = DFMSHL(**QUICK, initial=20, validation=10, clone_rate=0.1, rate=0.004)
    attacker.attack(fake_oracle(300, posteriors), kit())
    assert max(rates) == pytest.approx(0.004)
