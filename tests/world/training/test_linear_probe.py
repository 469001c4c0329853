"""Training on a frozen body: the same classifier, without running the body again."""

import pytest
import torch

from envs.data.sources import load
from envs.nets import registry
from envs.training.evaluation import predict
from envs.training.linear_probe import embedded, images_at_once, without_body
from envs.training.loop import fit
from envs.training.recipes import Recipe

PLAN = Recipe(epochs=3, batch=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def digits():
    return load("digits").train.select(slice(0, 100))


def _network(digits, seed=0):
    network = registry.build(
        "resnet10-half",
        num_classes=10,
        image_shape=digits.image_shape,
        generator=torch.Generator().manual_seed(seed),
    )
    network.freeze_body()
    return network


def _fit(network, digits, recipe=PLAN, **options):
    generator = torch.Generator().manual_seed(4)
    return fit(network, digits.pixels, digits.labels, recipe, generator=generator, **options)


def test_the_head_learns_as_it_would_behind_the_whole_network(digits):
    short, long = _network(digits), _network(digits)
    quick = _fit(short, digits)

    def loss(network, images, targets):
        return torch.nn.functional.cross_entropy(network(images), targets)

    slow = _fit(long, digits, loss=loss)
    assert quick.train_loss == pytest.approx(slow.train_loss, rel=1e-4)
    torch.testing.assert_close(short.classifier.weight, long.classifier.weight)
    start = _network(digits)
    assert not torch.equal(short.classifier.weight, start.classifier.weight)
    for name, value in start.stages.state_dict().items():
        assert torch.equal(short.stages.state_dict()[name], value)
    assert quick.steps == slow.steps


def test_the_body_runs_once_however_many_epochs(digits):
    network = _network(digits)
    seen = []
    network.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    _fit(network, digits)
    assert sum(seen) == len(digits)


def test_augmentation_and_a_free_body_run_the_whole_network(digits):
    frozen = _network(digits)
    assert without_body(frozen, digits.pixels, "shift") == (frozen, digits.pixels)
    free = registry.build(
        "resnet10-half", num_classes=10, image_shape=(1, 8, 8), generator=torch.Generator()
    )
    assert without_body(free, digits.pixels, "none") == (free, digits.pixels)


def test_what_is_kept_is_what_the_classifier_reads(digits):
    network = _network(digits)
    features = embedded(network, digits.pixels)
    assert features.shape == (100, 32)
    with torch.no_grad():
        torch.testing.assert_close(network.classifier(features), predict(network, digits.pixels))


def test_large_images_go_through_in_smaller_parts():
    assert images_at_once(torch.empty(1, 3, 64, 64, device="meta"), 512) == 512
    assert images_at_once(torch.empty(1, 3, 224, 224, device="meta"), 512) == 41
    assert images_at_once(torch.empty(1, 3, 384, 384, device="meta"), 512) == 16
    assert images_at_once(torch.empty(1, 3, 384, 384, device="meta"), 8) == 8


def test_an_attacker_trains_a_frozen_clone_on_what_it_bought(digits):
    from agents.learning.transfer_set import TransferSet

    network = _network(digits)
    targets = torch.nn.functional.one_hot(digits.labels, 10).float()
    report = TransferSet(digits.pixels, targets).train(
        network, PLAN, torch.Generator().manual_seed(1)
    )
    assert report.train_loss[-1] < report.train_loss[0]
