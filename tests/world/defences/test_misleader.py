"""MISLEADER: what its loss asks for, and the ensemble that serves."""

import math

import pytest
import torch
from torch import nn

from envs.defences.dnf import DNF
from envs.defences.misleader import Misleader
from envs.errors import ScenarioError, UnknownName
from envs.nets.ensemble import SoftVote
from envs.training.misleading_distillation import (
    Distillation,
    MisleadingLoss,
    distillation,
    divergence,
    statistics_kept,
)
from envs.training.recipes import Recipe

SMALL = {
    "members": ["mlp-small", "conv-small"], "weights": [0.0, 0.05], "temperatures": [4.0, 2.0],
    "shares": [0.9, 0.3],
}  # fmt: skip


def logits(*rows):
    return torch.tensor(rows).log()


def test_the_published_example_of_a_copys_distance():
    d, a = logits([0.8, 0.1, 0.1]), logits([1 / 3, 1 / 3, 1 / 3])
    assert float(divergence(d, a)) == pytest.approx(0.4596, abs=1e-4)
    assert float(divergence(d, d)) == pytest.approx(0, abs=1e-7)


def test_distillation_by_hand():
    """A network that answers as its teacher pays for the labels alone, at any temperature."""
    answers, labels = logits([0.8, 0.1, 0.1]), torch.tensor([1])
    found = distillation(answers, answers, labels, temperature=4.0, share=0.3)
    assert float(found) == pytest.approx(0.7 * -math.log(0.1), rel=1e-5)
    other = logits([0.1, 0.8, 0.1])
    alone = distillation(answers, other, labels, temperature=1.0, share=1.0)
    assert float(alone) == pytest.approx(0.7 * math.log(8), rel=1e-5)


class Constant(nn.Module):
    """Answers one row of logits, which may learn, whatever it is asked."""

    def __init__(self, *row):
        super().__init__()
        self.row = nn.Parameter(torch.tensor(row).log())

    def forward(self, images):
        return self.row.expand(len(images), -1)


def loss_of(copy, *, misleading=0.5, rate=1e-12, updates=1):
    recipe = Recipe(epochs=1, learning_rate=rate, schedule="constant", weight_decay=0.0)
    return MisleadingLoss(
        Distillation(misleading, temperature=4.0, share=0.9),
        teacher=Constant(0.8, 0.1, 0.1),
        copy=copy,
        draw=lambda count: torch.zeros(count, 1, 2, 2),
        recipe=recipe,
        steps=100,
        updates=updates,
    )


IMAGES, LABELS = torch.zeros(4, 1, 2, 2), torch.zeros(4, dtype=torch.int64)


def test_the_loss_falls_when_the_copy_gets_worse():
    network = Constant(0.8, 0.1, 0.1)
    near, far = Constant(0.8, 0.1, 0.1), Constant(1 / 3, 1 / 3, 1 / 3)
    good, bad = (loss_of(copy)(network, IMAGES, LABELS).item() for copy in (near, far))
    assert bad == pytest.approx(good - 0.5 * 0.4596, abs=1e-4)
    control = loss_of(far, misleading=0.0)(network, IMAGES, LABELS).item()
    assert control == pytest.approx(good, abs=1e-6)


def test_the_network_moves_away_from_its_copy_and_the_copy_towards_it():
    network, copy = Constant(0.6, 0.2, 0.2), Constant(0.4, 0.3, 0.3)
    before = divergence(network.row[None], copy.row[None]).item()
    loss = loss_of(copy, misleading=100.0, rate=0.1)(network, IMAGES, LABELS)
    assert divergence(network.row[None], copy.row[None]).item() < before
    assert copy.row.grad is not None
    followed = copy.row.detach().clone()
    loss.backward()
    assert float(network.row.grad[0]) < 0  # downhill it gets surer, which the copy is not
    assert torch.equal(copy.row, followed)


def test_more_updates_bring_the_copy_nearer():
    network = Constant(0.8, 0.1, 0.1)
    left = []
    for updates in (1, 5):
        copy = Constant(1 / 3, 1 / 3, 1 / 3)
        loss_of(copy, rate=0.1, updates=updates)(network, IMAGES, LABELS)
        left.append(divergence(network.row[None], copy.row[None]).item())
    assert left[1] < left[0] < 0.4596


def test_augmented_images_leave_the_served_statistics_alone():
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()).train()
    with statistics_kept(network):
        network(5 + torch.rand(8, 1, 2, 2))
    assert float(network[0].running_mean) == 0
    network(5 + torch.rand(8, 1, 2, 2))
    assert float(network[0].running_mean) > 0.1


def test_an_ensemble_answers_the_mean_posterior_and_no_flatter():
    vote = SoftVote([Constant(0.9, 0.05, 0.05), Constant(0.1, 0.8, 0.1)])
    served = vote(IMAGES).softmax(1)[0]
    torch.testing.assert_close(served, torch.tensor([0.5, 0.425, 0.075]))


def test_the_ensemble_serves_and_is_paid_for(digits_world):
    bare = digits_world.victim()
    defence = Misleader(**SMALL, epochs=2)
    served = defence.harden(bare, digits_world.kit())
    members = served.network.backbone.stages[0].members
    images = digits_world.images
    with torch.no_grad():
        mean = sum(member(images).softmax(1) for member in members) / 2
    torch.testing.assert_close(digits_world.serve(defence, served).posteriors, mean)
    # 64 x 64 + 64 x 64 + 64 x 10 of the perceptron, the rest of the two convolutions
    convolutions = 64 * 9 * 16 + 16 * 9 * 16 * 32 + 512 * 64 + 64 * 10
    assert served.profile.macs == (2 * 64 * 64 + 640 + convolutions,)
    assert defence.overhead_macs == 0
    assert served.num_exits == 1


def test_the_ensemble_learns_the_task(digits_world):
    defence = Misleader(**SMALL, epochs=15)
    served = defence.harden(digits_world.victim(), digits_world.kit())
    test = digits_world.data.test
    right = (served.posteriors(test.images()).argmax(1) == test.labels).double().mean()
    assert float(right) > 0.8


def test_the_factor_bears_on_what_is_trained(digits_world):
    answers = [
        Misleader(**SMALL, epochs=1, misleading=factor)
        .harden(digits_world.victim(), digits_world.kit())
        .posteriors(digits_world.images)
        for factor in (0.0, 0.0, 50.0)
    ]
    assert torch.equal(answers[0], answers[1])
    assert not torch.allclose(answers[0], answers[2], atol=1e-4)


def test_exits_that_are_there_already_are_not_dropped_in_silence(digits_world):
    fortress = DNF("plain", thresholds="published", epochs=1)
    hardened = fortress.harden(digits_world.victim(), digits_world.kit())
    with pytest.raises(ScenarioError, match="leave out one of the two defences"):
        Misleader(**SMALL, epochs=1).harden(hardened, digits_world.kit())


def test_members_by_image_size(digits_world):
    defence = Misleader(epochs=0)
    ensemble = defence.harden(digits_world.victim(), digits_world.kit()).network.backbone
    names = [member.architecture for member in ensemble.stages[0].members]
    assert names == ["resnet10-half", "mobilenetv2-small", "densenet-small"]


def test_odd_values_are_told():
    with pytest.raises(ValueError, match="for each of 2 members, got 3, 3 and 3"):
        Misleader(members=["mlp-small", "conv-small"])
    with pytest.raises(ValueError, match="members by name"):
        Misleader(weights=[0.1], temperatures=[1.0], shares=[0.5])
    with pytest.raises(ValueError, match="weights of at least 0"):
        Misleader(misleading=-1.0)
    with pytest.raises(ValueError, match="shares from 0 to 1"):
        Misleader(shares=(0.3, 1.5, 0.3))
    with pytest.raises(UnknownName, match="mlp-small"):
        Misleader(**{**SMALL, "members": ["mlp-smal", "conv-small"]})
