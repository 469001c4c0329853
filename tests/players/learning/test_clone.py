"""How a clone learns from answers."""

import math
from contextlib import suppress

import pytest
import torch
from torch import nn
from torch.nn import functional

from agents.learning.clone import (
    CloneTrainer,
    cross_entropy,
    cross_entropy_of_argmax,
    disagreement_for,
    kl_divergence,
    l1_on_logits,
    own_chance,
    recover_logits,
)
from envs.errors import ScenarioError
from envs.types import harden_labels
from envs.victim.victim import to_posteriors


@pytest.fixture
def logits():
    return 4 * torch.randn(32, 10, generator=torch.Generator().manual_seed(0))


def test_recovered_logits_are_the_mean_centred_ones_to_1e5(logits):
    centred = logits - logits.mean(1, keepdim=True)
    assert (recover_logits(to_posteriors(logits)) - centred).abs().max() < 1e-5


def test_recovered_logits_forget_a_constant_shift_of_the_victims_logits(logits):
    shifted = recover_logits(to_posteriors(logits + 37.0))
    assert (shifted - recover_logits(to_posteriors(logits))).abs().max() < 1e-5


def test_an_exact_zero_is_floored_before_the_logarithm():
    recovered = recover_logits(torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    half = -math.log(1e-12) / 2
    torch.testing.assert_close(recovered, torch.tensor([[half, -half]], dtype=torch.float64))


def test_l1_compares_raw_logits_so_that_a_shift_of_the_clone_costs(logits):
    targets = to_posteriors(logits)
    clone = recover_logits(targets)
    assert l1_on_logits(clone, targets).max() < 1e-6
    assert torch.allclose(l1_on_logits(clone + 0.5, targets), torch.tensor(0.5), atol=1e-5)


def test_l1_by_hand():
    # log 0.8 - log 0.2 = log 4, so that the recovered logits are +-log(4)/2
    loss = l1_on_logits(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.2]]))
    expected = (abs(1 - math.log(4) / 2) + math.log(4) / 2) / 2
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_kl_by_hand_and_zero_at_the_victim(logits):
    loss = kl_divergence(torch.zeros(1, 2), torch.tensor([[0.8, 0.2]]))
    assert float(loss) == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4), rel=1e-6)
    assert kl_divergence(logits, to_posteriors(logits)).abs().max() < 1e-5


def test_cross_entropy_on_one_hot_answers_is_that_of_labels_bit_for_bit(logits):
    labels = harden_labels(to_posteriors(torch.randn(32, 10)))
    as_usual = nn.functional.cross_entropy(logits, labels.argmax(1), reduction="none")
    torch.testing.assert_close(cross_entropy(logits, labels), as_usual)
    assert torch.equal(cross_entropy_of_argmax(logits, labels), as_usual)


def test_argmax_reads_nothing_but_the_label(logits):
    soft = to_posteriors(torch.randn(32, 10))
    hard = cross_entropy_of_argmax(logits, harden_labels(soft))
    assert torch.equal(cross_entropy_of_argmax(logits, soft), hard)


def test_auto_fits_the_labels_that_are_served():
    assert disagreement_for("auto", "soft") is l1_on_logits
    assert disagreement_for("auto", "hard") is cross_entropy
    assert disagreement_for("kl", "hard") is kl_divergence


def test_an_unknown_loss_names_those_there_are():
    with pytest.raises(ScenarioError, match=r"no clone loss 'l2'; known: auto, argmax"):
        disagreement_for("l2", "soft")


def test_a_step_is_torchs_own_sgd_with_momentum_and_decay():
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.rand(8, 4, generator=generator), torch.full((8, 3), 1 / 3)
    ours, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(ours.state_dict())
    trainer = CloneTrainer(ours, l1_on_logits, rate=0.1, momentum=0.9, weight_decay=5e-4)
    reference = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    for _ in range(3):
        loss = trainer.step(images, targets)
        expected = l1_on_logits(plain(images), targets).mean()
        assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
        reference.zero_grad()
        expected.backward()
        reference.step()
    torch.testing.assert_close(ours.weight, plain.weight)


def test_a_single_image_trains_a_clone_with_batch_normalisation():
    clone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    before = clone[0].weight.clone()
    CloneTrainer(clone, l1_on_logits, rate=0.1).step(torch.rand(1, 4), torch.full((1, 3), 1 / 3))
    assert not torch.equal(clone[0].weight, before)
    assert int(clone[1].num_batches_tracked) == 0


class Functional(nn.Linear):
    """Drops features by a function, which no look at its layers would find."""

    def forward(self, features):
        return super().forward(functional.dropout(features, 0.5, self.training))


@pytest.mark.parametrize(
    "drop", [lambda: nn.Dropout(0.5), lambda: Functional(8, 8), lambda: nn.AlphaDropout(0.5)]
)
def test_dropout_draws_from_the_players_generator_and_leaves_the_process_alone(drop):
    def trained(shared, own):
        torch.manual_seed(0)
        clone = nn.Sequential(nn.Linear(4, 8), drop(), nn.Linear(8, 3))
        generator = torch.Generator().manual_seed(own)
        trainer = CloneTrainer(clone, l1_on_logits, rate=0.1, generator=generator)
        torch.manual_seed(shared)
        before = torch.get_rng_state()
        images = torch.linspace(0, 1, 32).view(8, 4)
        for _ in range(3):
            trainer.step(images, torch.full((8, 3), 1 / 3))
        assert torch.equal(torch.get_rng_state(), before)
        return torch.cat([weights.flatten() for weights in clone.parameters()])

    assert torch.equal(trained(1, 5), trained(2, 5))
    assert not torch.equal(trained(1, 5), trained(1, 6))


def test_a_clone_without_dropout_leaves_the_players_generator_where_it_stands():
    generator = torch.Generator().manual_seed(3)
    clone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    trainer = CloneTrainer(clone, l1_on_logits, rate=0.1, generator=generator)
    trainer.step(torch.rand(8, 4), torch.full((8, 3), 1 / 3))
    assert torch.equal(generator.get_state(), torch.Generator().manual_seed(3).get_state())


def test_chance_goes_on_in_the_players_generator_and_comes_back_after_a_fault():
    generator, same = (torch.Generator().manual_seed(3) for _ in range(2))
    before = torch.get_rng_state()
    with suppress(ZeroDivisionError), own_chance(generator):
        drawn = torch.rand(5)
        raise ZeroDivisionError
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, torch.rand(5, generator=same))
    assert torch.equal(torch.rand(5, generator=generator), torch.rand(5, generator=same))
