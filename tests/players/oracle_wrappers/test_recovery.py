"""Undoing known perturbations."""

import pytest
import torch

from agents.attackers.dfme import DFME
from agents.attackers.wrapped import Recovery, Wrapped
from agents.oracle_wrappers import recovery
from agents.oracle_wrappers.perturbation_inverses import (
    SIMULATIONS,
    LookUp,
    keep_top,
    mix_with_wrong_class,
    simulate,
    without_bias,
    without_bump,
    without_vertex,
)
from envs.errors import ScenarioError, UnknownName
from envs.seeding import Streams


def pairs(count, strength, defence="randp", seed=0):
    return simulate(
        count,
        10,
        defence=defence,
        strength=strength,
        prior=0.2,
        generator=Streams(seed).torch("pairs"),
    )


def test_the_debiased_mean_of_20_000_answers_is_the_clean_one_within_a_hundredth():
    clean = torch.tensor([[0.6, 0.15, 0.1, 0.05, 0.04, 0.03, 0.01, 0.01, 0.01, 0.0]])
    generator = Streams(0).torch("answers")
    for epsilon in (0.5, 1.0):
        served = mix_with_wrong_class(clean.double().repeat(20_000, 1), epsilon, generator)
        mean = served.mean(0, keepdim=True)
        assert float((without_bias(mean, epsilon) - clean).abs().max()) < 0.01
        assert float((mean - clean).abs().max()) > 0.05


def test_the_bump_of_a_single_answer_comes_off_exactly_at_epsilon_one():
    clean, served = pairs(5_000, 1.0)
    usable = clean.amax(1) < 1 - 1e-9
    error = (without_bump(served, 1.0) - clean)[usable].abs().max()
    assert float(error) < 1e-9


@pytest.mark.parametrize(("epsilon", "share"), [(0.9, 0.99), (0.8, 0.97), (0.5, 0.83), (0.2, 0.47)])
def test_the_bump_comes_off_as_often_as_derived(epsilon, share):
    clean, served = pairs(20_000, epsilon)
    exact = (without_bump(served, epsilon) - clean).abs().amax(1) < 1e-9
    assert float(exact.float().mean()) == pytest.approx(share, abs=0.015)


def test_answers_without_a_bump_stay_as_they_are():
    answers = torch.full((3, 10), 0.1, dtype=torch.float64)
    assert torch.equal(without_bump(answers, 1.0), answers)
    assert torch.equal(without_vertex(answers, 1.0), answers)


def test_a_vertex_comes_off_up_to_the_small_true_entry():
    clean, served = pairs(5_000, 1.0, "p-poison")
    usable = clean.amax(1) < 0.95
    restored = without_vertex(served, 1.0)
    before = (served - clean)[usable].abs().sum(1).mean()
    after = (restored - clean)[usable].abs().sum(1).median()
    assert float(after) < 0.15 * float(before)


@pytest.mark.parametrize(("defence", "strength"), [("randp", 0.5), ("reverse-sigmoid", 0.21)])
def test_a_table_of_simulated_pairs_restores_answers(defence, strength):
    table = LookUp(*pairs(50_000, strength, defence))
    clean, served = pairs(300, strength, defence, seed=1)
    before = float((served - clean).abs().sum(1).mean())
    restored = table(served)
    assert torch.allclose(restored.sum(1), torch.ones(300, dtype=restored.dtype))
    assert float((restored - clean).abs().sum(1).mean()) < 0.6 * before


def test_a_table_does_not_care_in_which_order_classes_come():
    table = LookUp(*pairs(2_000, 0.5))
    _, served = pairs(20, 0.5, seed=1)
    order = torch.randperm(10, generator=Streams(2).torch("order"))
    assert torch.allclose(table(served)[:, order], table(served[:, order]), atol=1e-6)


@pytest.mark.parametrize("defence", ["randp", "p-poison"])
def test_a_simulated_defence_can_keep_the_top(defence):
    clean, plain = pairs(2_000, 1.0, defence)
    generator = Streams(3).torch("again")
    kept = keep_top(SIMULATIONS[defence])(clean, 1.0, generator)
    assert torch.equal(kept.argmax(1), clean.argmax(1))
    assert (plain.argmax(1) != clean.argmax(1)).float().mean() > 0.9
    assert (kept - clean).abs().sum(1).max() <= 1 + 1e-9


def test_the_attacker_learns_from_what_it_restored(fake_oracle, kit):
    def posteriors(images):
        quarters = images.reshape(len(images), 4, -1).mean(2)
        return (20 * quarters).softmax(1)

    generator = Streams(4).torch("defence")

    def poisoned(images):
        return mix_with_wrong_class(posteriors(images).double(), 1.0, generator).float()

    seen = []

    class Watched(DFME):
        def learn(self, images, targets):
            seen.append((targets - posteriors(images)).abs().sum(1))
            return super().learn(images, targets)

    wrapper = recovery.Recovery(strength=1.0, method="bump", preserves_top1=False)
    attacker = Wrapped(Watched(batch=10, generator_steps=0), [wrapper])
    attacker.attack(fake_oracle(200, poisoned), kit())
    assert float(torch.cat(seen).max()) < 1e-4


@pytest.mark.parametrize("method", ["de-bias", "bump", "look-up"])
def test_every_method_brings_answers_nearer_to_the_clean_ones(fake_oracle, kit, method):
    """Three classes and RandP; de-biasing needs several answers, the others take one."""
    generator = Streams(4).torch("defence")

    def clean(images):
        thirds = images.flatten(1)[:, :63].reshape(len(images), 3, -1).mean(2)
        return (30 * thirds).softmax(1)

    epsilon = 0.5 if method == "de-bias" else 0.8

    def poisoned(images):
        return mix_with_wrong_class(clean(images).double(), epsilon, generator).float()

    images = torch.rand(200, 1, 8, 8, generator=Streams(5).torch("images"))

    def error(posteriors):
        return float((posteriors - clean(images)).abs().sum(1).mean())

    repeats = 40 if method == "de-bias" else 1
    oracle = fake_oracle(10**6, poisoned, classes=3)
    wrapper = recovery.Recovery(
        strength=epsilon, method=method, preserves_top1=False, repeats=repeats, prior=1.0
    )
    restored = wrapper.wrap(oracle, kit()).query(images).posteriors
    served = torch.stack([poisoned(images) for _ in range(repeats)]).mean(0)
    assert error(restored) < 0.6 * error(served)
    assert torch.allclose(restored.sum(1), torch.ones(200), atol=1e-4)


def test_the_table_knows_whether_the_top_is_kept(fake_oracle, kit):
    oracle = fake_oracle(10, classes=3)
    kept, moved = (
        recovery.Recovery(strength=1.0, preserves_top1=keeps, pairs=500)._table(oracle, kit())
        for keeps in (True, False)
    )
    # with labels kept an answer's top is the clean one's; else at 1.0 it is the wrong class
    answers = torch.tensor([[0.51, 0.45, 0.04]])
    assert int(kept(answers).argmax()) == 0
    assert int(moved(answers).argmax()) == 1


def test_repeats_are_charged(fake_oracle, kit):
    oracle = fake_oracle(140 * 3)
    Recovery(method="de-bias", repeats=3, batch=10).attack(oracle, kit())
    assert oracle.remaining == 0
    assert len(oracle.requests) == 3 * 12


def test_what_does_not_fit_is_refused():
    with pytest.raises(UnknownName, match="did you mean 'randp'"):
        Recovery(defence="rand")
    with pytest.raises(ScenarioError, match="does not fit 'reverse-sigmoid'"):
        Recovery(defence="reverse-sigmoid", method="bump")
    with pytest.raises(ScenarioError, match="expected strength"):
        Recovery(strength=2.0)
