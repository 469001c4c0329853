"""Convolutions whose weights lie as the processor's kernels want them.

oneDNN, with which torch convolves on a CPU, reorders the weights of a convolution at every call.
For few images with small maps that takes longer than the arithmetic: a 3x3 convolution of 512
channels on three maps of 4x4 takes 3.8 ms, and 1.8 ms with weights packed beforehand. What follows
a convolution in a residual block is done while its result is at hand, which saves reading and
writing the early maps. The kernels are the same, and so is every bit of the
answers.

That is so on processors with AVX512. The kernels for AVX2 were slower with packed weights, so that
nothing is packed there. `arena bench --only packing` measures both ways in turn.

Two cases go the usual way, because other kernels take part in them, whose last digits differ:
convolutions of 1x1, and single images.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.nets.resnet import BasicBlock

_ops = torch.ops.mkldnn


class PackedConv2d(nn.Conv2d):
    """A convolution for serving that keeps its weights packed as well.

    Packed at the first call that can use it; neither copied nor saved. The weights are taken to
    be final.
    """

    _packed: Tensor | None = None

    @classmethod
    def of(cls, layer: nn.Conv2d) -> "PackedConv2d":
        """Make one that shares the weights of a layer."""
        packed = cls.__new__(cls)
        packed.__dict__.update(layer.__dict__)
        return packed

    def forward(self, images: Tensor) -> Tensor:
        """Convolve (n, c, h, w)."""
        if _go_the_usual_way(images):
            return super().forward(images)
        convolved: Tensor = _ops._convolution_pointwise(images, *self._arguments(), "none", [], "")
        return convolved

    def rectify(self, images: Tensor) -> Tensor:
        """Convolve (n, c, h, w) and apply the ReLU."""
        if _go_the_usual_way(images):
            return F.relu(super().forward(images), inplace=True)
        rectified: Tensor = _ops._convolution_pointwise(images, *self._arguments(), "relu", [], "")
        return rectified

    def rectify_sum(self, images: Tensor, summand: Tensor) -> Tensor:
        """Convolve (n, c, h, w), add, and apply the ReLU; what is added may be overwritten."""
        if _go_the_usual_way(images):
            return F.relu(super().forward(images).add_(summand), inplace=True)
        rectified: Tensor = _ops._convolution_pointwise_.binary(
            summand, images, *self._arguments(), "add", 1.0, "relu", [], ""
        )
        return rectified

    def _arguments(self) -> tuple[Any, ...]:  # `Any`: what the operations take
        geometry = self.padding, self.stride, self.dilation, self.groups
        if self._packed is None:
            self._packed = _ops._reorder_convolution_weight(self.weight, *geometry)
        return self._packed, self.bias, *geometry

    def __getstate__(self) -> dict[str, Any]:  # `Any`: whatever a module consists of
        """Leave the packed weights out; they belong to this process."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


class PackedBlock(nn.Module):
    """A residual block for serving; it may overwrite the maps that it is given.

    Args:
        block: its normalisation folded and its convolutions packed.
    """

    def __init__(self, block: BasicBlock) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList((block.conv1, block.conv2))
        self.shortcut = block.shortcut

    def forward(self, features: Tensor) -> Tensor:
        """Map as the block does."""
        first, second = self.convolutions
        assert isinstance(first, PackedConv2d)
        assert isinstance(second, PackedConv2d)
        return second.rectify_sum(first.rectify(features), self.shortcut(features))


def can_pack() -> bool:
    """Tell whether this torch has the operations."""
    return torch.backends.mkldnn.is_available() and hasattr(_ops, "_convolution_pointwise_")


def packing_pays() -> bool:
    """Tell whether this torch can pack and the processor has the kernels that gain by it."""
    return can_pack() and torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def pack(network: nn.Module) -> None:
    """Let a network's convolutions be packed, in place.

    Args:
        network: laid out for serving, where `can_pack`.
    """
    for replaced in (_packed_layer, _packed_block):  # a block asks whether its layers are packed
        for module in list(network.modules()):
            for name, part in list(module.named_children()):
                setattr(module, name, replaced(part))


def _packed_layer(layer: nn.Module) -> nn.Module:
    """Return the packed convolution, or any other layer as it is."""
    if type(layer) is not nn.Conv2d or layer.weight.dtype != torch.float32:
        return layer
    plain = layer.padding_mode != "zeros" or isinstance(layer.padding, str)
    return layer if plain or max(layer.kernel_size) == 1 else PackedConv2d.of(layer)


def _packed_block(block: nn.Module) -> nn.Module:
    """Return the packed block, or anything else as it is."""
    if type(block) is not BasicBlock:
        return block
    packed = all(isinstance(layer, PackedConv2d) for layer in (block.conv1, block.conv2))
    folded = all(isinstance(norm, nn.Identity) for norm in (block.norm1, block.norm2))
    return PackedBlock(block) if packed and folded else block


def _go_the_usual_way(images: Tensor) -> bool:
    return len(images) == 1 or images.device.type != "cpu" or torch.compiler.is_compiling()
