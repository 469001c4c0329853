"""E3's parts: what it asks, its two resolutions, its temperature, its alignment."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from agents.attackers.e3 import E3, SoftenedLoss, coarsened, softened
from agents.learning.aligned_norm import align
from agents.learning.features import features_of
from agents.learning.selection import nearest_in_turn
from envs.errors import ScenarioError
from envs.nets.staged import GlobalPool


def test_a_temperature_flattens_as_worked_by_hand():
    p = torch.tensor([[0.9, 0.08, 0.02]])
    assert softened(p, 2.0)[0].tolist() == pytest.approx([0.691, 0.206, 0.103], abs=1e-3)
    assert softened(p, 0.5)[0].tolist() == pytest.approx([0.992, 0.0078, 0.0005], abs=1e-3)
    assert softened(torch.eye(3), 2.0).max() < 0.999  # zeros do not stay zero


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_a_clone_that_answers_as_the_victim_has_no_gradient(temperature):
    p = torch.tensor([[0.9, 0.08, 0.02], [0.2, 0.3, 0.5]])
    logits = p.log().requires_grad_()
    loss = SoftenedLoss(temperature)(lambda images: logits, p, softened(p, temperature))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert float(gradient.abs().max()) < 1e-6


def test_every_class_gets_its_nearest_unused_image_in_turn():
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.5, 0.7, 0.2], [0.1, 0.9, 0.3], [0.2, 0.1, 0.0]])
    assert nearest_in_turn(scores, 1).tolist() == [0]
    # class 1's best is image 2; class 2's too, which is taken, so that it gets image 1
    assert nearest_in_turn(scores, 4).tolist() == [0, 2, 1, 3]


def test_it_asks_the_images_nearest_the_classes(fake_oracle, posteriors, with_pool):
    class Watched(E3):
        def choose(self, pixels, count):
            chosen = super().choose(pixels, count)
            self.seen = (self.clone, self.answers, pixels, chosen)
            return chosen

    thief = Watched(epochs=4, first_share=0.5)
    thief.attack(fake_oracle(40, posteriors), with_pool())
    clone, answers, pixels, chosen = thief.seen
    answered = F.normalize(features_of(clone, answers.pixels))
    means = F.normalize(torch.stack([
        (answers.posteriors[:, k : k + 1] * answered).sum(0) for k in range(4)
    ]))  # fmt: skip
    scores = F.normalize(features_of(clone, pixels)) @ means.T
    assert int(chosen[0]) == int(scores[:, 0].argmax())
    left = torch.ones(len(pixels), dtype=torch.bool)
    left[chosen] = False
    assert scores.amax(1)[chosen].mean() > scores.amax(1)[left].mean()


def small_convolution():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), GlobalPool(), nn.Linear(4, 4)
    )


def test_coarse_images_are_smaller_where_the_clone_takes_them(kit, random_pool):
    pixels = random_pool().pixels
    assert coarsened(small_convolution(), pixels, 0.75).shape == (60, 1, 6, 6)
    again = coarsened(kit().new_clone(), pixels, 0.5)
    assert again.shape == pixels.shape
    # what is lost is the detail: neighbours are more alike
    assert again.float().diff(dim=3).abs().mean() < pixels.float().diff(dim=3).abs().mean() / 2


def test_the_first_stage_sees_coarse_images_and_the_second_whole_ones(
    fake_oracle, posteriors, with_pool, monkeypatch
):
    seen = []

    def watched(self, network, images, targets):
        seen.append(images.shape[2])
        return network(images).mean()

    monkeypatch.setattr(SoftenedLoss, "__call__", watched)
    kit = with_pool()
    object.__setattr__(kit, "new_clone", small_convolution)
    E3(selection="random", resolution=0.75, epochs=10, request=40).attack(
        fake_oracle(40, posteriors), kit
    )
    assert seen == [6] * 7 + [8] * 3


def test_small_images_are_shown_whole_unless_told_otherwise(
    fake_oracle, posteriors, with_pool, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "agents.attackers.e3.coarsened", lambda clone, pixels, share: asked.append(share) or pixels
    )
    E3(epochs=2).attack(fake_oracle(20, posteriors), with_pool())
    assert asked == []
    E3(epochs=2, resolution=0.5).attack(fake_oracle(20, posteriors), with_pool())
    assert asked == [0.5, 0.5]


def test_alignment_takes_the_batchs_own_statistics():
    torch.manual_seed(0)
    trained = small_convolution().train()
    for _ in range(3):
        trained(torch.rand(16, 1, 8, 8))
    shifted = torch.rand(16, 1, 8, 8) * 0.3 + 0.7
    with torch.no_grad():
        as_it_is = trained.eval()(shifted)
        seen = trained[0](shifted)
        assert torch.allclose(align(trained, 0.0)(shifted), as_it_is, atol=1e-5)
        trained[1].share = 1.0
        normalised = trained[1](seen)
    assert float(normalised.mean((0, 2, 3)).abs().max()) < 1e-5


def test_an_aligned_clone_is_handed_in_and_answers_single_images(
    fake_oracle, posteriors, with_pool
):
    kit = with_pool()
    object.__setattr__(kit, "new_clone", small_convolution)
    thief = E3(alignment=0.5, epochs=2)
    thief.attack(fake_oracle(40, posteriors), kit)
    assert bool(torch.isfinite(thief.clone(torch.rand(1, 1, 8, 8))).all())


@pytest.mark.parametrize("params", [{"selection": "names"}, {"resolution": 0.0}])
def test_what_cannot_be_played_is_refused(params):
    with pytest.raises(ScenarioError, match="expected"):
        E3(**params)
