"""The random filter of MeCo: a perturbation of an image that depends on the image and on chance.

A block is a 1x1 convolution to two channels, a dilated 3x3 convolution and a 1x1 convolution
back, with a normalisation of each image and channel after each; two blocks follow one another.
It is never trained, and every image has weights of its own.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from envs.defences.randomness import to_normal

_HIDDEN, _TAPS, _BLOCKS = 2, 9, 2
_VARIANCE_FLOOR = 1e-5
_TINY_IMAGE = 16


@dataclass(frozen=True, slots=True)
class RandomFilter:
    """A family of filters, one for each draw of numbers.

    Args:
        image_shape: (channels, height, width).
        spread: standard deviation of Gaussian noise on the weights of convolutions, relative to
            that of the weights, which are uniform as torch draws them at first.
    """

    image_shape: tuple[int, int, int]
    spread: float = 0.0

    @property
    def dilation(self) -> int:
        """Pixels between the taps of the 3x3 convolution: 2, or 1 for images below 16 pixels."""
        return 1 if min(self.image_shape[1:]) < _TINY_IMAGE else 2

    @property
    def sizes(self) -> tuple[int, ...]:
        """Weights of a block: in, across, their biases, and back."""
        channels = self.image_shape[0]
        return channels * _HIDDEN, _HIDDEN * _HIDDEN * _TAPS, _HIDDEN, _HIDDEN * channels

    @property
    def draws(self) -> int:
        """Uniform numbers that one image takes."""
        weights = _BLOCKS * sum(self.sizes)
        return 2 * weights if self.spread > 0 else weights

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        into, across, _, back = self.sizes
        return _BLOCKS * (into + across + back) * self.image_shape[1] * self.image_shape[2]

    def __call__(self, images: Tensor, uniforms: Tensor, amplitude: float | Tensor = 1.0) -> Tensor:
        """Compute the perturbation h(x).

        Args:
            images: (n, c, h, w) with zero mean and unit variance over the data set.
            uniforms: (n, draws) in [0, 1).
            amplitude: standard deviation e of every channel, the same after both blocks.

        Returns:
            (n, c, h, w): each image and channel has mean 0 and, unless it is constant,
            deviation e.
        """
        signal = images
        for weights in self._weights(uniforms.double(), images.dtype):
            signal = self._block(signal, weights) * amplitude
        return signal

    def _weights(self, uniforms: Tensor, dtype: torch.dtype) -> list[tuple[Tensor, ...]]:
        """Turn uniform numbers into the weights of both blocks."""
        count = _BLOCKS * sum(self.sizes)
        base, noise = uniforms[:, :count], uniforms[:, count:]
        channels = self.image_shape[0]
        fans = (channels, _HIDDEN * _TAPS, _HIDDEN * _TAPS, _HIDDEN)
        bounds = [
            bound
            for _ in range(_BLOCKS)
            for size, fan in zip(self.sizes, fans, strict=True)
            for bound in [1 / math.sqrt(fan)] * size
        ]
        bound = torch.tensor(bounds, dtype=base.dtype, device=base.device)
        weights = (2 * base - 1) * bound
        if self.spread > 0:
            weights = weights + self.spread * bound / math.sqrt(3) * to_normal(noise)
        parts = weights.to(dtype).split(self.sizes * _BLOCKS, 1)
        each = len(self.sizes)
        return [parts[start : start + each] for start in range(0, len(parts), each)]

    def _block(self, signal: Tensor, weights: tuple[Tensor, ...]) -> Tensor:
        count, channels, height, width = signal.shape
        into, across, bias, back = weights
        hidden = into.view(count, _HIDDEN, channels) @ signal.flatten(2)
        hidden = standardised(hidden).relu().view(count, _HIDDEN, height, width)
        columns = F.unfold(hidden, 3, dilation=self.dilation, padding=self.dilation)
        hidden = across.view(count, _HIDDEN, -1) @ columns + bias.unsqueeze(2)
        hidden = standardised(hidden).relu()  # (n, 2, h*w)
        return standardised(back.view(count, channels, _HIDDEN) @ hidden).view_as(signal)


def standardised(signal: Tensor) -> Tensor:
    """Give each row of (n, c, pixels) zero mean and unit variance; constant rows become 0."""
    centred = signal - signal.mean(2, keepdim=True)
    variance = centred.square().mean(2, keepdim=True)
    return centred * (variance + _VARIANCE_FLOOR).rsqrt()
