"""Building networks by name: shapes, weights, randomness and errors."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from envs.errors import ScenarioError, UnknownName
from envs.nets import registry
from envs.nets.init import NoInitialValues, initialise, materialise

SMALL = ("resnet10", "resnet10-half", "mobilenetv2-small", "densenet-small", "conv-small",
         "mlp-small")  # fmt: skip
CIFAR = ("resnet18-8x", "resnet34-8x", "mobilenetv2", "densenet121")


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def _build(name, *, seed=0, num_classes=10, image_shape=(1, 8, 8), **params):
    return registry.build(
        name, num_classes=num_classes, image_shape=image_shape, generator=_seeded(seed), **params
    )


@pytest.mark.parametrize("num_classes", [2, 1000])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 28, 36)])
@pytest.mark.parametrize("name", SMALL)
def test_small_networks_answer_images_of_every_small_size(name, shape, num_classes):
    network = _build(name, num_classes=num_classes, image_shape=shape).eval()
    images = torch.rand(3, *shape, generator=_seeded(1))
    assert network(images).shape == (3, num_classes)
    assert network(images).isfinite().all()


@pytest.mark.parametrize("num_classes", [2, 1000])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, (3, 32, 32)) for name in CIFAR),
        ("resnet18-8x", (1, 28, 28)),
        ("mobilenetv2", (1, 28, 28)),
        ("lenet5", (1, 28, 28)),
        ("lenet5", (3, 32, 32)),
        ("resnet10", (3, 224, 224)),
        ("resnet50", (3, 224, 224)),
        ("resnet34", (1, 224, 224)),
        ("vgg19", (3, 224, 224)),
        ("resnet50", (3, 384, 384)),
    ],
)
def test_stages_widths_and_logits_have_the_promised_shapes(name, shape, num_classes):
    network = registry.outline(name, num_classes=num_classes, image_shape=shape).eval()
    features = torch.empty(2, *shape, device="meta")
    for stage, width in zip(network.stages, network.widths, strict=True):
        features = stage(features)
        assert network.pool(features).shape == (2, width)
    assert network.classify(features).shape == (2, num_classes)
    assert network.classifier(network.embed(features)).shape == (2, num_classes)


@pytest.mark.parametrize("name", [*SMALL, "lenet5"])
def test_one_seed_gives_one_network_whatever_the_global_state(name):
    shape = (1, 28, 28)
    state = torch.get_rng_state()
    first = _build(name, image_shape=shape)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        again = _build(name, image_shape=shape)
    other = _build(name, image_shape=shape, seed=1)
    weights = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in weights.items())
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in weights.items())


def test_torchvision_networks_neither_read_nor_move_the_global_state():
    state = torch.get_rng_state()
    network = _build("resnet34", image_shape=(3, 64, 64))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(network.classifier.weight, _build(
        "resnet34", image_shape=(3, 64, 64)).classifier.weight)  # fmt: skip


def test_convolutions_start_with_the_spread_of_kaiming_and_linear_layers_within_their_bound():
    network = _build("resnet18-8x", image_shape=(3, 32, 32))
    conv = network.stages[3][0].conv2.weight  # 512 x 512 x 3 x 3
    assert conv.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)
    assert network.classifier.weight.abs().max() <= 512**-0.5
    assert network.classifier.weight.std().item() == pytest.approx((3 * 512) ** -0.5, rel=0.05)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert all(
        bool((norm.weight == 1).all() and (norm.bias == 0).all() and (norm.running_var == 1).all())
        for norm in norms
    )


def test_every_weight_is_drawn_or_refused():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    with pytest.raises(TypeError, match="no rule to initialise the weights of a Odd"):
        initialise(Odd(), generator=_seeded())
    with torch.device("meta"):
        norm = nn.LayerNorm(4)
    assert torch.equal(materialise(norm, generator=_seeded()).weight, torch.ones(4))


def test_what_would_be_drawn_without_memory_is_left_out_and_nothing_else():
    with torch.device("meta"), NoInitialValues():
        weights = torch.empty(3)
        assert weights.mul_(torch.empty(2)) is weights  # torch refuses two by three
        with pytest.raises(RuntimeError):
            weights.sub_(torch.empty(2))
        assert torch.ones(2, device="cpu").mul_(2).tolist() == [2, 2]
    with torch.device("meta"), pytest.raises(RuntimeError):
        weights.mul_(torch.empty(2))


def test_images_come_in_unit_range_and_are_standardised_inside_out_of_place():
    plain = _build("mlp-small")
    shifted = _build("mlp-small", mean=(0.3,), std=(0.4,))
    images = torch.rand(5, 1, 8, 8, generator=_seeded(2))
    before = images.clone()
    torch.testing.assert_close(shifted(images), plain((images - 0.3) / 0.4))
    assert torch.equal(images, before)


def test_a_checkpoint_carries_its_normalisation():
    saved = _build("resnet10", mean=(0.305,), std=(0.376,)).eval()
    loaded = _build("resnet10", seed=9).eval()
    loaded.load_state_dict(saved.state_dict())
    images = torch.rand(4, 1, 8, 8, generator=_seeded(3))
    assert torch.equal(loaded(images), saved(images))


def test_dropout_acts_in_training_and_never_in_eval():
    network = _build("mobilenetv2-small", dropout=0.5)
    images = torch.rand(6, 1, 8, 8, generator=_seeded(4))
    network.eval()
    assert torch.equal(network(images), network(images))
    cifar = registry.outline("mobilenetv2", num_classes=10, image_shape=(3, 32, 32))
    assert [m.p for m in cifar.modules() if isinstance(m, nn.Dropout)] == [0.2]
    network.train()
    with torch.random.fork_rng():
        assert not torch.equal(network(images), network(images))


def test_a_resnet_of_half_the_width_is_the_registered_clone():
    half = _build("resnet10-half")
    by_hand = _build("resnet10", width=0.5)
    assert half.widths == by_hand.widths == (8, 16, 32, 32)
    assert half.architecture == "resnet10-half"
    assert half.width == 8
    assert by_hand.params == {"width": 0.5}


def test_cutting_stages_finer_leaves_the_function_alone():
    whole = _build("resnet34-8x", image_shape=(3, 16, 16), width=0.125).eval()
    cut = _build("resnet34-8x", image_shape=(3, 16, 16), width=0.125, exit_every=2).eval()
    images = torch.rand(2, 3, 16, 16, generator=_seeded(5))
    assert len(cut.stages) == 8
    assert torch.equal(whole(images), cut(images))


def test_an_unknown_network_is_answered_with_a_suggestion():
    with pytest.raises(
        UnknownName, match=r"no network named 'resnet1O'; did you mean 'resnet10'\?"
    ):
        _build("resnet1O")
    with pytest.raises(UnknownName):
        registry.describe("transformer-xxl")


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("resnet10", {"widht": 2.0}, "no parameter 'widht'; did you mean 'width'"),
        ("resnet10-half", {"width": 2.0}, "no parameter 'width'; known: exit_every, stem_stride"),
        ("resnet10", {"width": "wide"}, "parameter 'width' of network 'resnet10' expects float"),
        ("resnet10", {"width": True}, "expects float, got True"),
        ("resnet10", {"stem_stride": 1.5}, r"expects int \| None, got 1.5"),
        ("resnet10", {"stem_stride": 3}, "stem_stride of 1 or 2, got 3"),
        ("resnet10", {"width": -1.0}, "width factor must be above 0, got -1.0"),
        ("densenet-small", {"growth": 0}, "growth of at least 1"),
        ("mobilenetv2-small", {"dropout": 1.0}, r"dropout in \[0, 1\), got 1.0"),
        ("mlp-small", {"hidden": 0}, "at least 1 hidden unit"),
        ("lenet5", {"zzz": 1}, "no parameter 'zzz'; it takes none"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_was_expected(name, params, message):
    with pytest.raises(ScenarioError, match=message):
        _build(name, image_shape=(1, 28, 28), **params)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18-8x", (1, 8, 8)),
        ("mobilenetv2", (1, 8, 8)),
        ("densenet121", (1, 28, 28)),
        ("lenet5", (1, 8, 8)),
        ("resnet10", (1, 4, 4)),
        ("resnet50", (3, 32, 32)),
        ("vgg19", (3, 32, 32)),
    ],
)
def test_images_a_network_cannot_take_are_refused_with_a_way_out(name, shape):
    with pytest.raises(ScenarioError, match=rf"'{name}' needs images of at least .* use '"):
        _build(name, image_shape=shape)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_classes": 1}, "at least 2 classes, got 1"),
        ({"image_shape": (8, 8)}, r"image shape \(channels, height, width\), got \(8, 8\)"),
        ({"mean": (0.1, 0.2)}, "one mean for each of 1 channels, got 2"),
        ({"std": (0.0,)}, "every std above 0"),
    ],
)
def test_impossible_data_are_refused(wrong, message):
    with pytest.raises(ScenarioError, match=message):
        _build("resnet10", **wrong)


def test_every_registered_network_can_be_described_and_loaded():
    for name in registry.names():
        assert registry.describe(name)
        assert callable(registry._NETWORKS[name].load())
    assert registry.parameters("resnet10") == {"width": 1.0, "stem_stride": None, "exit_every": 0}


def test_listing_the_networks_loads_no_torch():
    code = (
        "import sys; from envs.nets import registry; registry.names(); "
        "registry.describe('resnet10'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
