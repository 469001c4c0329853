"""Parameter counts, costs and exit positions of the networks, against published numbers."""

import pytest
import torch
from torch import nn

from envs.nets import registry
from envs.nets.exit_cost import backbone_macs, profile
from envs.nets.multi_exit import ExitHead, with_heads

# name, image shape, parameters: (constant, weights per class, params at K = 10), depth
PUBLISHED = [
    ("resnet34-8x", (3, 32, 32), {}, 21_276_992, 513, 34),
    ("resnet18-8x", (3, 32, 32), {}, 11_168_832, 513, 18),
    ("mobilenetv2", (3, 32, 32), {}, 2_223_872, 1_281, 53),
    ("densenet121", (3, 32, 32), {}, 6_946_176, 1_025, 121),
    ("resnet50", (3, 224, 224), {}, 23_508_032, 2_049, 50),
    ("resnet34", (3, 224, 224), {}, 21_284_672, 513, 34),
    ("vgg19", (3, 224, 224), {}, 139_581_248, 4_097, 19),
    ("vgg19", (3, 224, 224), {"batch_norm": False}, 139_570_240, 4_097, 19),
    # the small ones: their count at ten classes, less ten classifier rows
    ("resnet10", (1, 8, 8), {}, 155_962 - 650, 65, 10),
    ("resnet10-half", (1, 8, 8), {}, 39_458 - 330, 33, 10),
    ("mobilenetv2-small", (1, 8, 8), {}, 29_418 - 650, 65, 17),
    ("densenet-small", (1, 8, 8), {}, 21_106 - 450, 45, 15),
    ("conv-small", (1, 8, 8), {}, 38_282 - 650, 65, 4),
    ("mlp-small", (1, 8, 8), {}, 8_970 - 650, 65, 3),
    ("resnet10", (1, 28, 28), {}, 308_538 - 1_290, 129, 10),
    ("resnet10", (1, 28, 28), {"stem_stride": 1}, 308_538 - 1_290, 129, 10),
    ("resnet10-half", (1, 28, 28), {}, 77_858 - 650, 65, 10),
    ("mobilenetv2-small", (1, 28, 28), {}, 86_634 - 1_290, 129, 23),
    ("lenet5", (1, 28, 28), {}, 61_706 - 850, 85, 5),
]

# name, image shape, classes of the published figure, MACs, shares after the stages in percent
COSTS = [
    ("resnet34-8x", (3, 32, 32), {}, 10, 1_159.4e6, (19.7, 44.3, 81.9, 100)),
    ("resnet18-8x", (3, 32, 32), {}, 10, 555.4e6, (27.5, 51.7, 75.8, 100)),
    ("mobilenetv2", (3, 32, 32), {}, 10, 88e6, (17.0, 30.9, 66.7, 92.5)),
    ("densenet121", (3, 32, 32), {}, 10, 223.4e6, (38.8, 68.6, 92.4, 100)),
    ("resnet50", (3, 224, 224), {}, 200, 4_088e6, (19.2, 44.4, 80.2, 100)),
    ("resnet34", (3, 224, 224), {}, 200, 3_663e6, (22.2, 46.0, 82.5, 100)),
    ("vgg19", (3, 224, 224), {}, 200, 19.63e9, (24.0, 57.0, 90.0, 99.4)),
    ("resnet10", (1, 8, 8), {}, 10, 1.763e6, (17.2, 30.3, 82.3, 100)),
    ("resnet10-half", (1, 8, 8), {}, 10, 0.443e6, (17.6, 30.7, 82.4, 100)),
    ("mobilenetv2-small", (1, 8, 8), {}, 10, 0.321e6, ()),
    ("densenet-small", (1, 8, 8), {}, 10, 0.804e6, ()),
    ("conv-small", (1, 8, 8), {}, 10, 0.116e6, ()),
    ("mlp-small", (1, 8, 8), {}, 10, 64 * 64 * 2 + 640, ()),
    ("resnet10", (1, 28, 28), {}, 10, 3.470e6, (26.8, 47.1, 73.5, 100)),
    ("resnet10", (1, 28, 28), {"stem_stride": 1}, 10, 13.02e6, (28.6, 50.2, 71.8, 100)),
    ("resnet10-half", (1, 28, 28), {}, 10, 0.875e6, (27.4, 47.6, 73.7, 100)),
    ("mobilenetv2-small", (1, 28, 28), {}, 10, 1.282e6, ()),
    ("lenet5", (1, 28, 28), {}, 10, 0.417e6, ()),
]

# channels after the stages whose heads are published, K, head settings, parameters of each head
HEADS = [
    ((64, 128, 256, 512), 10, {}, (7_510, 13_910, 26_710, 52_310)),
    ((64, 128, 256, 512), 100, {}, (165_100, 229_100, 357_100, 613_100)),
    (
        (256, 512, 1024, 2048),
        200,
        {"relu": False},
        (914_200, 1_426_200, 2_450_200, 4_498_200),
    ),
    (
        (384, 768, 1536, 1536),
        200,
        {"layer_norm": True},
        (1_170_968, 1_939_736, 3_477_272, 3_477_272),
    ),
    ((16, 32, 64, 64), 10, {}, (2_710, 4_310, 7_510, 7_510)),
    ((16, 32, 64, 128), 10, {}, (2_710, 4_310, 7_510, 13_910)),
]


def count_parameters(network):
    return sum(weights.numel() for weights in network.parameters())


def _label(value):
    return value if isinstance(value, str) else None


@pytest.mark.parametrize("num_classes", [10, 200])
@pytest.mark.parametrize(
    ("name", "shape", "params", "constant", "per_class", "depth"), PUBLISHED, ids=_label
)
def test_parameter_counts_are_the_published_ones(
    name, shape, params, constant, per_class, depth, num_classes
):
    network = registry.outline(name, num_classes=num_classes, image_shape=shape, **params)
    assert count_parameters(network) == constant + per_class * num_classes
    assert network.depth == depth


@pytest.mark.parametrize(
    ("name", "shape", "params", "num_classes", "macs", "shares"), COSTS, ids=_label
)
def test_macs_and_exit_positions_are_the_published_ones(
    name, shape, params, num_classes, macs, shares
):
    network = registry.outline(name, num_classes=num_classes, image_shape=shape, **params)
    counted = backbone_macs(network)
    assert counted[-1] == pytest.approx(macs, rel=0.005)
    assert len(counted) == len(network.stages) + 1
    for stage, share in enumerate(shares):
        assert 100 * counted[stage] / counted[-1] == pytest.approx(share, abs=0.2)


@pytest.mark.parametrize(
    "name", [n for n in registry.names() if "transformers" not in registry._NETWORKS[n].target]
)
def test_depth_counts_the_layers_that_are_there(name):
    shape = (3, 224, 224) if "vision" in registry._NETWORKS[name].target else (3, 32, 32)
    network = registry.outline(name, num_classes=10, image_shape=shape)
    weighted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    shortcuts = [
        m
        for label, m in network.named_modules()
        if isinstance(m, nn.Conv2d) and ("shortcut" in label or "downsample" in label)
    ]
    assert network.depth == len(weighted) - len(shortcuts)


@pytest.mark.parametrize(("widths", "num_classes", "settings", "expected"), HEADS)
def test_head_parameters_are_the_published_ones(widths, num_classes, settings, expected):
    heads = [ExitHead(width, num_classes, **settings) for width in widths]
    assert tuple(count_parameters(head) for head in heads) == expected


@pytest.mark.parametrize(
    ("name", "shape", "num_classes", "limit"),
    [
        ("resnet34-8x", (3, 32, 32), 10, 0.0025),
        ("resnet34-8x", (3, 32, 32), 100, 0.0025),
        ("resnet50", (3, 224, 224), 200, 0.0025),
        ("resnet10", (1, 8, 8), 10, 0.0125),
        ("resnet10", (1, 28, 28), 10, 0.0125),
    ],
)
def test_all_heads_together_cost_next_to_nothing(name, shape, num_classes, limit):
    network = registry.outline(name, num_classes=num_classes, image_shape=shape)
    plain = backbone_macs(network)
    headed = profile(with_heads(network)).macs
    by_hand = [10 * num_classes * (width + num_classes) for width in network.widths]
    for e in range(4):
        assert headed[e] == plain[e] + sum(by_hand[: e + 1])
    assert headed[4] == plain[4] + sum(by_hand)
    assert sum(by_hand) < limit * plain[-1]


def test_the_look_alike_resnet18_has_the_same_weights_at_a_quarter_of_the_cost():
    network = registry.outline("resnet18-8x", num_classes=10, image_shape=(3, 32, 32))
    alike = registry.outline("resnet18-8x", num_classes=10, image_shape=(3, 32, 32))
    stem = alike.stages[0][1][0]
    stem.append(nn.MaxPool2d(3, 2, 1))
    assert count_parameters(alike) == count_parameters(network) == 11_173_962
    assert backbone_macs(alike)[-1] == pytest.approx(0.140e9, rel=0.005)
    assert backbone_macs(network)[-1] == pytest.approx(0.555e9, rel=0.005)


@pytest.mark.parametrize(
    ("name", "alike", "its_macs"),
    [("mobilenetv2", 2_296_922, 0.091e9), ("densenet121", 6_956_298, 0.888e9)],
)
def test_clones_are_not_the_look_alikes_of_other_repositories(name, alike, its_macs):
    network = registry.outline(name, num_classes=10, image_shape=(3, 32, 32))
    assert count_parameters(network) != alike
    assert abs(backbone_macs(network)[-1] - its_macs) > 0.02 * its_macs


@pytest.mark.parametrize(("size", "last"), [(8, 2), (28, 2), (32, 2)])
def test_resnet10_keeps_a_map_at_least_two_pixels_wide(size, last):
    network = registry.outline("resnet10", num_classes=10, image_shape=(1, size, size))
    features = torch.empty(1, 1, size, size, device="meta")
    for stage in network.stages:
        features = stage(features)
    assert features.shape[-1] >= last


def test_eight_places_on_resnet34_lie_where_the_serving_benchmark_has_them():
    network = registry.outline("resnet34-8x", num_classes=10, image_shape=(3, 32, 32), exit_every=2)
    macs = backbone_macs(network)
    shares = [macs[stage] / macs[-1] for stage in range(8)]
    expected = [0.132, 0.248, 0.378, 0.494, 0.624, 0.754, 0.870, 1.0]
    assert shares == pytest.approx(expected, abs=0.001)
