"""The heads that serve are the heads that were trained, however their weights were rewritten."""

import copy
import dataclasses
import io

import pytest
import torch

from envs.data.digits import digits_splits
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.nets.staged import HeadStyle
from envs.training import exit_training
from envs.training.exit_training import ExitRecipe, train_exits
from envs.training.objective import BoundObjective, Weights
from envs.victim.folded import lay_out, serving_copy

STYLES = [HeadStyle(relu=relu, layer_norm=norm) for relu in (True, False) for norm in (True, False)]
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def data():
    return digits_splits().train.select(slice(0, 256))


def network_of(name, data, style=None, *, stochastic=False, **params) -> MultiExit:
    backbone = build(
        name, num_classes=10, image_shape=data.image_shape, generator=stream(), **params
    )
    backbone.head_style = style or backbone.head_style
    backbone.train()
    with torch.no_grad():
        backbone(data.images())  # batch statistics that are not the identity
    return with_heads(backbone.eval(), generator=stream(1), stochastic=stochastic)


def trained(network, data, monkeypatch, *, rate=0.05, epochs=3):
    """Train at a real rate; returns the logits of `data` by the heads as they were trained."""
    finish, logits = exit_training._Trainer.finish, []

    def spy(trainer):
        network.eval()
        with torch.no_grad():
            features = trainer._features(data.images())
            logits.extend(network.answer(e, part) for e, part in enumerate(features))
        finish(trainer)

    monkeypatch.setattr(exit_training._Trainer, "finish", spy)
    weights = Weights((0.0,) * network.num_exits, w_c=1e-3 if _stochastic(network) else 0.0)
    objective = BoundObjective(network, weights, chance=stream(2), initial=stream(3))
    recipe = ExitRecipe(epochs=epochs, batch=32, learning_rate=rate)
    before = copy.deepcopy(network.heads.state_dict())
    train_exits(network, objective, recipe, data=data, draw=None, order=stream(4))
    moved = max(
        float((now - before[name]).abs().max()) for name, now in network.heads.state_dict().items()
    )
    assert moved > 0.01  # a test of weights that did not move shows nothing
    return torch.stack(logits)


def _stochastic(network) -> bool:
    return network.head(0).stochastic


def served_ways(network, images):
    """Return the logits of every rewriting that serving may use."""
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    fast = serving_copy(network)
    with torch.no_grad():
        return {
            "network": network.forward_all(images),
            "pickled": torch.load(file, weights_only=False).forward_all(images),
            "serving copy": fast.forward_all(lay_out(images, fast)),
        }


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("style", STYLES, ids=str)
def test_heads_of_every_style_serve_the_logits_they_were_trained_to(
    style, stochastic, data, monkeypatch
):
    network = network_of("resnet10-half", data, style, stochastic=stochastic)
    expected = trained(network, data, monkeypatch)
    for way, logits in served_ways(network, data.images()).items():
        torch.testing.assert_close(logits, expected, **CLOSE, msg=lambda m, w=way: f"{w}: {m}")


@pytest.mark.parametrize("name", ["conv-small", "mlp-small", "mobilenetv2-small", "densenet-small"])
def test_small_networks_serve_the_logits_their_heads_were_trained_to(name, data, monkeypatch):
    check(name, data, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["lenet5", "resnet18-8x", "mobilenetv2", "resnet34", "resnet50", "vgg19", "deit-tiny"]
)
def test_large_networks_serve_the_logits_their_heads_were_trained_to(name, data, monkeypatch):
    factor = 8 if name in ("resnet34", "resnet50", "vgg19") else 4
    pixels = data.pixels[:64].repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    large = dataclasses.replace(data, pixels=pixels, labels=data.labels[:64])
    check(name, large, monkeypatch)


def check(name, data, monkeypatch):
    network = network_of(name, data)
    expected = trained(network, data, monkeypatch)
    for way, logits in served_ways(network, data.images()).items():
        torch.testing.assert_close(logits, expected, **CLOSE, msg=lambda m, w=way: f"{w}: {m}")


class Indifferent:
    """An objective without a slope, so that nothing but the decay moves weights."""

    def __init__(self, network):
        self._network = network

    def id_loss(self, pooled, labels):
        return sum(0 * self._network.answer(e, part).sum() for e, part in enumerate(pooled))

    def extra_parameters(self):
        return []


def test_weight_decay_shrinks_what_learns_and_nothing_else(data):
    network = network_of("conv-small", data)
    before = {name: weights.clone() for name, weights in network.state_dict().items()}
    recipe = ExitRecipe(
        epochs=1, batch=256, learning_rate=0.1, weight_decay=0.5, standardise=False, cosine=False
    )
    train_exits(network, Indifferent(network), recipe, data=data, draw=None, order=stream())
    for name, weights in network.state_dict().items():
        factor = 0.95 if name.startswith("heads") else 1.0  # 1 - 0.1 * 0.5
        assert torch.allclose(weights, factor * before[name]), name
