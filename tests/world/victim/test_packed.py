"""Claims about convolutions with packed weights."""

import copy
import io

import pytest
import torch
from torch import nn

from envs.nets.multi_exit import with_heads
from envs.nets.registry import build
from envs.nets.resnet import BasicBlock
from envs.victim.folded import serving_copy
from envs.victim.packed import PackedBlock, PackedConv2d, pack

has_kernels = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN to pack weights for"
)


def noise(*shape: int) -> torch.Tensor:
    images = torch.rand(shape, generator=torch.Generator().manual_seed(3))
    return images.contiguous(memory_format=torch.channels_last)


def convolution(*geometry: int, **options) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        layer = nn.Conv2d(*geometry, **options)
    return layer.requires_grad_(False).to(memory_format=torch.channels_last)


@has_kernels
@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 33])
@pytest.mark.parametrize(
    ("geometry", "size", "options"),
    [
        ((512, 512, 3, 1, 1), 4, {}),
        ((64, 128, 3, 2, 1), 16, {}),
        ((3, 64, 7, 2, 3), 32, {}),
        ((16, 32, 3, 1, 1), 8, {"bias": False}),
        ((32, 32, 3, 1, 1), 8, {"groups": 32}),
        ((24, 40, 3, 1, 2), 7, {"dilation": 2}),
        ((3, 48, 16, 16), 32, {}),
    ],
)
def test_packing_changes_no_bit_of_the_answer(geometry, size, options, count):
    layer = convolution(*geometry, **options)
    packed, images = PackedConv2d.of(layer), noise(count, geometry[0], size, size)
    with torch.inference_mode():
        expected, got = layer(images), packed(images)
    assert torch.equal(got, expected)
    assert got.stride() == expected.stride()


@has_kernels
@pytest.mark.parametrize("name", ["resnet10", "mobilenetv2-small", "densenet-small", "conv-small"])
def test_the_serving_copy_answers_to_the_last_bit_as_without_packing(name):
    stream = torch.Generator().manual_seed(0)
    backbone = build(name, num_classes=10, image_shape=(1, 8, 8), generator=stream)
    network = with_heads(backbone, generator=stream).eval()
    packed, plain = (serving_copy(network, packed=wanted) for wanted in (True, False))
    assert any(isinstance(layer, PackedConv2d) for layer in packed.modules())
    assert not any(isinstance(layer, PackedConv2d) for layer in plain.modules())
    for count in (1, 2, 7, 64):
        images = noise(count, 1, 8, 8)
        with torch.inference_mode():
            assert torch.equal(packed.forward_all(images), plain.forward_all(images))


def folded_block(before: int, after: int, stride: int) -> nn.Sequential:
    """A residual block in a container, as serving has it before packing."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        block = BasicBlock(before, after, stride=stride).eval().requires_grad_(False)
    block.norm1 = block.norm2 = nn.Identity()
    return nn.Sequential(block).to(memory_format=torch.channels_last)


@has_kernels
@pytest.mark.parametrize("count", [1, 2, 3, 17])
@pytest.mark.parametrize("shape", [(16, 16, 1), (16, 24, 2), (64, 128, 2)])
def test_a_packed_block_answers_to_the_last_bit_as_the_block(shape, count):
    plain, packed = folded_block(*shape), folded_block(*shape)
    pack(packed)
    assert isinstance(packed[0], PackedBlock)
    features = noise(count, shape[0], 8, 8) - 0.5
    with torch.inference_mode():
        expected = plain(features)
        in_rows = packed(features.contiguous())
        assert torch.equal(packed(features), expected)
    torch.testing.assert_close(in_rows, expected)


def test_a_block_that_still_normalises_is_left_as_it_is():
    layers = nn.Sequential(BasicBlock(4, 4, stride=1))
    pack(layers)
    assert type(layers[0]) is BasicBlock


@has_kernels
def test_a_network_that_needs_a_map_again_which_a_packed_block_overwrites_serves_itself():
    class Twice(nn.Module):
        """Adds what a block was given to what it made."""

        def __init__(self, width: int) -> None:
            super().__init__()
            self.block = BasicBlock(width, width, stride=1)

        def forward(self, features):
            return self.block(features) + features

    stream = torch.Generator().manual_seed(0)
    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=stream)
    backbone.stages[1].append(Twice(backbone.widths[1]))
    network = with_heads(backbone, generator=stream).eval()
    assert serving_copy(network, packed=True) is network
    assert serving_copy(network, packed=False) is not network


@has_kernels
def test_only_what_kernels_are_there_for_is_packed():
    layers = nn.Sequential(
        convolution(4, 4, 3),
        convolution(4, 4, 1),
        convolution(4, 4, 3, padding="same"),
        convolution(4, 4, 3, padding=1, padding_mode="reflect"),
        convolution(4, 4, 3).double(),
        nn.Sequential(convolution(4, 4, (1, 3))),
    )
    pack(layers)
    kinds = [type(layer) for layer in layers.modules() if isinstance(layer, nn.Conv2d)]
    assert kinds == [PackedConv2d, nn.Conv2d, nn.Conv2d, nn.Conv2d, nn.Conv2d, PackedConv2d]


@has_kernels
@pytest.mark.parametrize(
    ("available", "capability", "packed"),
    [
        (True, "AVX512", True),
        (True, "AVX2", False),
        (True, "DEFAULT", False),
        (False, "AVX512", False),
    ],
)
def test_weights_are_packed_only_where_it_pays(available, capability, packed, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: available)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    stream = torch.Generator().manual_seed(0)
    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=stream)
    copied = serving_copy(with_heads(backbone, generator=stream).eval())
    assert any(isinstance(layer, PackedConv2d) for layer in copied.modules()) is packed


@has_kernels
def test_a_packed_convolution_shares_its_weights_and_is_copied_and_saved_without_what_it_packed():
    layer, images = convolution(8, 8, 3), noise(4, 8, 6, 6)
    packed = PackedConv2d.of(layer)
    expected = packed(images)
    assert packed.weight is layer.weight
    file = io.BytesIO()
    torch.save(packed, file)
    file.seek(0)
    for other in (copy.deepcopy(packed), torch.load(file, weights_only=False)):
        assert other._packed is None
        assert torch.equal(other(images), expected)


@has_kernels
def test_a_packed_convolution_can_be_compiled_into_a_graph():
    packed, images = PackedConv2d.of(convolution(8, 8, 3)), noise(4, 8, 6, 6)
    with torch.inference_mode():
        expected = packed(images)
        compiled = torch.compile(packed, backend="eager", fullgraph=True)(images)
    torch.testing.assert_close(compiled, expected)
