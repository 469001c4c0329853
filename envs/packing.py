"""Convolutions whose weights lie as the processor's kernels want them.

oneDNN, with which torch convolves on a CPU, reorders the weights of a convolution at every call.
For few images with small maps that takes longer than the arithmetic: a 3x3 convolution of 512
channels on three maps of 4x4 takes 3.8 ms, and 1.8 ms with weights packed beforehand. The kernels
are the same, and so is every bit of the answers.

Two cases go the usual way, because other kernels take part in them, whose last digits differ:
convolutions of 1x1, and single images.
"""

from typing import Any

import torch
from torch import Tensor, nn

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
        if len(images) == 1 or images.device.type != "cpu" or torch.compiler.is_compiling():
            return super().forward(images)
        geometry = self.padding, self.stride, self.dilation, self.groups
        if self._packed is None:
            self._packed = _ops._reorder_convolution_weight(self.weight, *geometry)
        convolved: Tensor = _ops._convolution_pointwise(
            images, self._packed, self.bias, *geometry, "none", [], ""
        )
        return convolved

    def __getstate__(self) -> dict[str, Any]:  # `Any`: whatever a module consists of
        """Leave the packed weights out; they belong to this process."""
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}


def pack(network: nn.Module) -> None:
    """Let a network's convolutions be packed, in place, where the processor has kernels for it."""
    if not torch.backends.mkldnn.is_available():
        return
    for module in list(network.modules()):
        for name, layer in list(module.named_children()):
            if type(layer) is nn.Conv2d and _packable(layer):
                setattr(module, name, PackedConv2d.of(layer))


def _packable(layer: nn.Conv2d) -> bool:
    padded = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return padded and max(layer.kernel_size) > 1 and layer.weight.dtype == torch.float32
