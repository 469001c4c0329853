"""The counted cost of each exit."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from envs.nets import exit_cost as module
from envs.nets import registry
from envs.nets.exit_cost import ExitProfile, backbone_macs, profile
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.staged import Plan, Staged


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _perceptron(**heads):
    backbone = registry.build(
        "mlp-small", num_classes=10, image_shape=(1, 8, 8), generator=_seeded()
    )
    return with_heads(backbone, generator=_seeded(), **heads)


def test_costs_of_a_perceptron_are_those_counted_by_hand():
    head = 64 * 100 + 100 * 10
    first, second, third = 64 * 64 + head, 2 * 64 * 64 + 2 * head, 2 * 64 * 64 + 2 * head + 640
    counted = profile(_perceptron())
    assert counted.macs == (first, second, third)
    layer, floats = 64 * 64 + 64, 4
    head_weights = 64 * 100 + 100 + 100 * 10 + 10
    norm = 2  # mean and std
    assert counted.weight_bytes == (
        floats * (norm + layer + head_weights),
        floats * (norm + 2 * layer + 2 * head_weights),
        floats * (norm + 2 * layer + 2 * head_weights + 650),
    )
    # subtract, divide, linear, ReLU | head: linear, ReLU, linear | linear, ReLU | head | linear
    assert counted.ops == (7, 12, 13)


def test_serving_never_pays_for_the_log_variance_of_a_stochastic_head():
    assert profile(_perceptron(stochastic=True)) == profile(_perceptron())


def test_a_network_without_heads_costs_its_backbone():
    backbone = registry.outline("resnet18-8x", num_classes=10, image_shape=(3, 32, 32))
    counted = profile(MultiExit(backbone))
    assert counted.macs == (backbone_macs(backbone)[-1],)
    assert counted.shares == (1.0,)
    weights = sum(t.nbytes for t in [*backbone.parameters(), *backbone.buffers()])
    assert counted.weight_bytes == (weights,)


def test_costs_rise_from_exit_to_exit():
    network = with_heads(registry.outline("resnet10", num_classes=10, image_shape=(1, 28, 28)))
    counted = profile(network)
    for column in (counted.macs, counted.ops, counted.weight_bytes):
        assert len(column) == network.num_exits
        assert list(column) == sorted(set(column))


def test_the_counted_cost_is_the_one_a_live_forward_pass_has():
    network = with_heads(
        registry.build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=_seeded()),
        generator=_seeded(),
    )
    flops = FlopCounterMode(display=False)
    with flops, torch.no_grad():
        network.eval().forward_all(torch.zeros(4, 1, 8, 8))
    assert flops.get_total_flops() == 2 * 4 * profile(network).macs[-1]


def test_attention_products_count():
    tokens, width = 6, 8

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.mix = nn.Linear(width, 3 * width)

        def forward(self, images):
            q, k, v = self.mix(images.flatten(2).mT).chunk(3, -1)  # (n, tokens, width)
            return F.scaled_dot_product_attention(q, k, v)

    class Mean(nn.Module):
        def forward(self, features):
            return features.mean(1)

    plan = Plan("attention", 5, (width, 2, 3), (0.0,) * width, (1.0,) * width)
    network = Staged(
        plan,
        [Attention()],
        widths=(width,),
        neck=Mean(),
        classifier=nn.Linear(width, 5),
        family="transformer",
        depth=2,
        width=width,
    )
    products = 2 * tokens * tokens * width
    assert profile(MultiExit(network)).macs == (tokens * 3 * width**2 + products + 5 * width,)


def test_counting_changes_nothing_and_is_done_once_per_structure(monkeypatch):
    network = _perceptron().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    monkeypatch.setattr(module, "_PROFILES", {})
    first = profile(network)
    assert network.training
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())

    def refuse(_):
        raise AssertionError("counted twice")

    monkeypatch.setattr(module, "_count", refuse)
    assert profile(network) is first
    assert profile(_perceptron()) is first


def test_another_size_exit_or_dtype_is_another_structure():
    wide = with_heads(registry.outline("resnet10", num_classes=10, image_shape=(1, 28, 28)))
    fewer = with_heads(
        registry.outline("resnet10", num_classes=10, image_shape=(1, 28, 28)), exits=(0, 2)
    )
    larger = with_heads(registry.outline("resnet10", num_classes=10, image_shape=(1, 32, 32)))
    assert len({profile(wide).macs, profile(fewer).macs, profile(larger).macs}) == 3
    half = with_heads(registry.outline("resnet10", num_classes=10, image_shape=(1, 28, 28))).half()
    assert profile(half).macs == profile(wide).macs
    assert profile(half).weight_bytes[-1] < 0.51 * profile(wide).weight_bytes[-1]


def test_a_profile_is_a_value():
    assert ExitProfile((1, 2), (1, 2), (4, 8)) == ExitProfile((1, 2), (1, 2), (4, 8))
    assert ExitProfile((1, 2), (1, 2), (4, 8)).shares == (0.5, 1.0)


def test_networks_that_differ_in_what_no_layer_shows_have_costs_of_their_own(tmp_path):
    path = tmp_path / "pooled.py"
    path.write_text(POOLED)
    for pool in (1, 4):
        generator, use = _seeded(), f"{path}:Net"
        backbone = registry.build(
            use, num_classes=10, image_shape=(1, 8, 8), generator=generator, pool=pool
        )
        network = MultiExit(backbone)
        assert profile(network) == module.profile_by(network, {})
        assert profile(network).macs[-1] == 64 * 72 + (8 // pool) ** 2 * 16 * 72 + 160


POOLED = """
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, num_classes, pool=1):
        super().__init__()
        self.pool = pool
        self.first, self.second = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.last = nn.Linear(16, num_classes)

    def forward(self, x):
        x = F.avg_pool2d(F.relu(self.first(x)), self.pool)
        return self.last(F.relu(self.second(x)).mean((2, 3)))
"""
