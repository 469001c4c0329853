"""The training of exits: every term with its sign, its weight and its source, by hand."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from envs.data.digits import digits_splits
from envs.nets.guarded import suspicions
from envs.nets.multi_exit import with_heads
from envs.nets.registry import build
from envs.seeding import Streams
from envs.training import guards, losses
from envs.training.exit_training import ExitRecipe, _Trainer, train_exits
from envs.training.guards import GuardRecipe, train_guards
from envs.training.objective import BoundObjective, ReleasedObjective, Weights
from envs.training.ood import ood_source
from envs.training.ood_sources import Material
from envs.training.probes import DetailReader, LabelProbe, thumbnails


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def data():
    return digits_splits().train.select(slice(0, 128))


def network_of(data, **options):
    backbone = build("mlp-small", num_classes=10, image_shape=data.image_shape, generator=stream())
    return with_heads(backbone.eval(), generator=stream(1), **options)


def entropy(logits):
    p = logits.softmax(1)
    return float(-(p * p.log()).sum(1).mean())


# terms


def test_infonce_rewards_codes_that_tell_their_image_from_the_others():
    """Two images, cosines 1 and 0 over 0.1: cross-entropy log(1 + e^-10), or 10 more if crossed."""
    reader = DetailReader(2, 2, contrastive=True, generator=stream())
    with torch.no_grad():
        for layer in (reader.read, reader.key):
            layer.weight.zero_()
            layer.weight[:2] = torch.eye(2)
            layer.bias.zero_()
    own = torch.eye(2, requires_grad=True)
    least = math.log1p(math.exp(-10))
    matched, crossed = reader(own, torch.eye(2)), reader(own, torch.eye(2).flip(0))
    assert matched.item() == pytest.approx(least - math.log(2), abs=1e-5)
    assert crossed.item() == pytest.approx(10 + least - math.log(2), abs=1e-5)
    (slope,) = torch.autograd.grad(crossed, own)
    # a step down that slope turns each code towards its own image's details
    with torch.no_grad():
        assert float(reader(own - 0.1 * slope, torch.eye(2).flip(0))) < crossed.item()


def test_a_decoder_is_rewarded_for_details_and_a_probe_for_the_label():
    reader = DetailReader(2, 2, contrastive=False, generator=stream())
    with torch.no_grad():
        reader.read.weight.copy_(torch.eye(2))
        reader.read.bias.zero_()
    small = torch.tensor([[1.0, -1.0]])
    assert reader(small, small).item() == 0
    assert reader(-small, small).item() == pytest.approx(4)  # the mean of 2^2 and 2^2
    probe = LabelProbe(2, 3, generator=stream())
    codes, labels = torch.eye(2), torch.tensor([0, 2])
    before = F.nll_loss(probe(codes), labels)
    for _ in range(50):
        probe.fit(codes, labels)
    assert float(F.nll_loss(probe(codes), labels)) < 0.5 * float(before)


def test_the_noise_of_a_code_has_the_deviation_of_half_the_log_variance(data, monkeypatch):
    network = network_of(data, exits=(0,), stochastic=True)
    log_variance = 2 * math.log(0.3)  # a deviation of 0.3, a variance of 0.09
    monkeypatch.setattr(
        type(network.head(0)),
        "code",
        lambda head, pooled: (
            torch.full((len(pooled), 50), 2.0), torch.full((len(pooled), 50), log_variance),
        ),
    )  # fmt: skip
    weights = Weights((0.0, 0.0), w_c=1.0)
    objective = BoundObjective(network, weights, chance=stream(2), initial=stream(3))
    seen = []
    monkeypatch.setattr(
        type(network.head(0)),
        "answer_code",
        lambda head, code: (seen.append(code), code[:, :10])[1],
    )
    objective.id_loss(network.features(data.images()), data.labels)
    assert float(seen[0].std()) == pytest.approx(0.3, rel=0.03)
    assert float(seen[0].mean()) == pytest.approx(2.0, abs=0.02)


@pytest.mark.parametrize("weights", [
    Weights((0.5, 0.5), "M", "R", w_y=2.0, w_x=3.0, w_s=4.0),
    Weights((0.5, 0.5), "U", "N", w_y=2.0, w_x=3.0),
    Weights((0.0, 0.0), "none", "none"),
])  # fmt: skip
@torch.no_grad()
def test_the_ood_loss_adds_its_terms_up(data, weights):
    """Equation 3 of one early exit: label information, less image information, plus entropy."""
    network = network_of(data, exits=(0,))
    objective = BoundObjective(network, weights, chance=stream(), initial=stream(3))
    images = torch.rand((40, *data.image_shape), generator=stream(4))
    pooled, labels = network.features(images), torch.arange(40) % 10
    small = thumbnails(images)
    logits = network.answer(0, pooled[0])
    expected = weights.alpha[0] * entropy(logits)
    if weights.estimator == "M":
        expected += 2 * float(losses.marginal_information(logits.softmax(1), labels))
    if weights.estimator == "U":
        expected += 2 * float(-logits.log_softmax(1).mean())
    if weights.x_info != "none":
        code = network.head(0).code_mean(pooled[0])
        expected += 3 * float(objective._readers[0](code, small))
    p = logits.softmax(1).mean(0)
    expected += weights.w_s * float((p * p.log()).sum())
    assert float(objective.ood_loss(pooled, labels, small)) == pytest.approx(expected, rel=1e-5)


@torch.no_grad()
def test_the_id_loss_adds_its_terms_up(data):
    """Equation 2: rate plus cross-entropy, less entropy at an early exit, plus it at the last."""
    network = network_of(data, exits=(0,))
    pooled = network.features(data.images())
    early, last = (network.answer(e, pooled[e]) for e in (0, 1))
    cost = [float(F.cross_entropy(logits, data.labels)) for logits in (early, last)]
    for train_last in (False, True):
        objective = BoundObjective(network, Weights((0.3, 0.7)), chance=stream(), initial=stream(),
                                   train_last=train_last)  # fmt: skip
        expected = cost[0] - 0.3 * entropy(early)
        if train_last:
            expected += cost[1] + 0.7 * entropy(last)
        assert float(objective.id_loss(pooled, data.labels)) == pytest.approx(expected, rel=1e-5)
    released = ReleasedObjective(network, (0.3, 0.7))
    total = sum(cost) - 0.3 * entropy(early) + 0.7 * entropy(last)
    assert float(released.id_loss(pooled, data.labels)) == pytest.approx(total, rel=1e-5)
    total = sum(cost) + 0.3 * entropy(early) - 0.7 * entropy(last)
    found = released.ood_loss(pooled, data.labels, torch.empty(0))
    assert float(found) == pytest.approx(total, rel=1e-5)


# where Y_ood comes from


class Spy:
    """An objective that pushes every exit towards class 3 and writes Y_ood down."""

    def __init__(self, network):
        self.network, self.seen = network, []

    def id_loss(self, pooled, labels):
        answers = (self.network.answer(e, part) for e, part in enumerate(pooled))
        return sum(F.cross_entropy(each, torch.full_like(labels, 3)) for each in answers)

    def ood_loss(self, pooled, labels, small):
        self.seen.append((labels, self.network.answer(0, pooled[0]).argmax(1)))
        return pooled[0].sum() * 0

    def extra_parameters(self):
        return []


@pytest.mark.parametrize("backbone", ["frozen", "drift", "last", "all"])
def test_the_victim_before_any_training_labels_ood_images(data, backbone):
    network = network_of(data, exits=(0,))
    victim = copy.deepcopy(network.backbone).eval()
    images = torch.rand((32, *data.image_shape), generator=stream(5))
    truth = victim(images).argmax(1)
    spy = Spy(network)
    recipe = ExitRecipe(epochs=6, batch=32, learning_rate=0.5, backbone=backbone,
                        standardise=False)  # fmt: skip
    train_exits(network, spy, recipe, data=data, draw=lambda count: images, order=stream())
    assert all(torch.equal(labels, truth) for labels, _ in spy.seen)
    assert not torch.equal(spy.seen[-1][1], truth)  # the first exit says otherwise by now
    assert len(truth.unique()) > 1


def test_the_first_exit_as_it_stands_labels_ood_images_of_the_released_code(data):
    network = network_of(data, exits=(0,))
    images = torch.rand((32, *data.image_shape), generator=stream(5))
    spy = Spy(network)
    recipe = ExitRecipe(epochs=6, batch=32, learning_rate=0.5, ood_label="exit1",
                        standardise=False)  # fmt: skip
    train_exits(network, spy, recipe, data=data, draw=lambda count: images, order=stream())
    assert all(torch.equal(labels, first) for labels, first in spy.seen)
    assert not torch.equal(spy.seen[0][0], spy.seen[-1][0])


# distillation


class Nothing:
    """An objective that asks for nothing."""

    def id_loss(self, pooled, labels):
        return pooled[0].sum() * 0

    def extra_parameters(self):
        return []


@pytest.mark.parametrize("backbone", ["last", "all"])
def test_distillation_brings_a_backbone_that_moves_back_to_the_victim(data, backbone):
    network = network_of(data, exits=(0,))
    recipe = ExitRecipe(epochs=20, batch=128, backbone=backbone, standardise=False, cosine=False)
    trainer = _Trainer(network, Nothing(), recipe, data=data, order=stream())
    victim = copy.deepcopy(network.backbone).eval()
    with torch.no_grad():
        network.backbone.classifier.bias[3] += 2.0
    images = data.images()

    @torch.no_grad()
    def apart():
        before, now = (net(images).log_softmax(1) for net in (victim, network.backbone))
        return float((before.exp() * (before - now)).sum(1).mean())

    start = apart()
    (batch,) = trainer.batches()
    assert float(trainer.step(batch, None)) == pytest.approx(start, rel=1e-4)
    for _ in range(40):
        (batch,) = trainer.batches()
        trainer.step(batch, None)
    assert apart() < 0.9 * start


# guards


def test_guards_suspect_outliers_and_not_their_own(data):
    splits = digits_splits()
    backbone = build("mlp-small", num_classes=10, image_shape=data.image_shape, generator=stream())
    network = train_guards(
        backbone, GuardRecipe(ood="uniform", steps=60), data=splits, streams=Streams(0),
        victim_key={},
    )  # fmt: skip
    strange = ood_source("uniform", Material(splits.train, stream(7)))(200)
    for own, odd in zip(
        *(
            suspicions(network, network.features(images))
            for images in (splits.validation.images(slice(0, 200)), strange)
        ),
        strict=True,
    ):
        assert float(own.mean()) < 0 < float(odd.mean())


def test_all_images_of_the_guards_are_moved_by_noise_of_the_stated_deviation(monkeypatch):
    """Grey images stay clear of 0 and 1, where what is added would be cut."""
    splits, seen = digits_splits(), []
    grey = replace(splits.train, pixels=torch.full_like(splits.train.pixels, 128))

    def watched(network, images, labels, scales):
        seen.append(images - 128 / 255)
        return sum(weight.sum() for weight in network.heads.parameters())

    monkeypatch.setattr(guards, "_loss", watched)
    monkeypatch.setattr(guards, "ood_source", lambda *_: lambda count: grey.images()[:count])
    backbone = build("mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=stream())
    recipe = GuardRecipe(steps=1, batch=64, noise=0.05, ood=["uniform"])
    train_guards(
        backbone, recipe, data=replace(splits, train=grey), streams=Streams(0), victim_key={}
    )
    for side in (seen[0][:64], seen[0][64:]):
        assert side.std().item() == pytest.approx(0.05, rel=0.05)


def test_guards_do_not_tell_images_by_noise_that_training_adds(monkeypatch):
    """Where OOD images are own ones, nothing is left to tell but what was done to them."""
    splits = digits_splits()
    first, second = stream(1), stream(2)

    def own(count):
        return splits.train.images(torch.randint(len(splits.train), (count,), generator=first))

    monkeypatch.setattr(guards, "ood_source", lambda *_: own)
    backbone = build("mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=stream())
    network = train_guards(
        backbone, GuardRecipe(ood="uniform", steps=200, noise=0.2), data=splits,
        streams=Streams(0), victim_key={},
    )  # fmt: skip
    images = splits.validation.images()
    moved = (images + 0.2 * torch.randn(images.shape, generator=second)).clamp(0, 1)
    for plain, noisy in zip(
        *(suspicions(network, network.features(each)) for each in (images, moved)), strict=True
    ):
        assert abs(float(plain.mean() - noisy.mean())) < 0.5


def test_the_loss_that_is_told_is_the_mean_of_the_steps(data, monkeypatch):
    steps = iter((1.0, 2.0, 6.0))
    monkeypatch.setattr(_Trainer, "step", lambda *_: torch.tensor(next(steps)))
    network, told = network_of(data), []
    objective = BoundObjective(
        network, Weights((0.0,) * network.num_exits), chance=stream(2), initial=stream(3)
    )
    recipe = ExitRecipe(epochs=1, batch=48)  # 128 images
    train_exits(
        network, objective, recipe, data=data, draw=None, order=stream(), report=told.append
    )
    assert told == ["exits: epoch 1/1, loss 3.000"]
