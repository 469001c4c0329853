"""Small trained readers of a head's code: they serve the training of exits and nobody else."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.nets.init import materialise
from envs.training.losses import info_nce

SMALL_SIDE = 8
"""Images up to this many pixels get thumbnails of 4x4, larger ones of 7x7."""
_DECAY = 0.9
_DETAIL_WIDTH = 64


def thumbnail_side(image_shape: tuple[int, int, int]) -> int:
    """Return the side of the thumbnails of such images, in pixels."""
    return 4 if min(image_shape[1:]) <= SMALL_SIDE else 7


def thumbnails(images: Tensor) -> Tensor:
    """Shrink images to grey thumbnails, standardised by pixel over the batch.

    Args:
        images: (n, c, h, w) in [0, 1].

    Returns:
        (n, side * side) float32 of zero mean and unit variance, or 0 where a pixel is constant.
    """
    side = thumbnail_side((images.shape[1], images.shape[2], images.shape[3]))
    small = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), side).flatten(1)
    centred = small - small.mean(0)
    return centred / centred.square().mean(0).sqrt().clamp_min(1e-4)


class LabelProbe(nn.Module):
    """Reads the victim's label out of a code: one linear layer, trained beside the head.

    Args:
        width: numbers in a code.
        num_classes: K.
        generator: where the weights come from.
    """

    def __init__(self, width: int, num_classes: int, *, generator: torch.Generator) -> None:
        super().__init__()
        self.linear = _linear(width, num_classes, generator)
        self._optimiser = torch.optim.Adam(self.parameters(), lr=1e-2)

    def fit(self, codes: Tensor, labels: Tensor) -> None:
        """Take one step towards the labels of (n, width) codes; the codes get no gradient."""
        with torch.enable_grad():
            loss = F.cross_entropy(self.linear(codes.detach()), labels)
            self._optimiser.zero_grad(set_to_none=True)
            loss.backward()
        self._optimiser.step()

    def forward(self, codes: Tensor) -> Tensor:
        """Return (n, K) log-probabilities; gradients reach the codes, not the probe."""
        weight, bias = self.linear.weight.detach(), self.linear.bias.detach()
        return F.log_softmax(F.linear(codes, weight, bias), 1)


class DetailReader(nn.Module):
    """Measures how much of an image its code keeps, as a loss to minimise.

    Args:
        width: numbers in a code.
        pixels: numbers in a thumbnail.
        contrastive: compare projections within the batch (InfoNCE) instead of decoding the
            thumbnail, whose squared error is a Gaussian bound up to constants.
        generator: where the weights come from.
    """

    def __init__(
        self, width: int, pixels: int, *, contrastive: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        size = _DETAIL_WIDTH if contrastive else pixels
        self.read = _linear(width, size, generator)
        self.key = _linear(pixels, size, generator) if contrastive else None

    def forward(self, codes: Tensor, small: Tensor) -> Tensor:
        """Return the loss of (n, width) codes and the (n, pixels) thumbnails of their images."""
        seen = self.read(codes)
        if self.key is not None:
            return -info_nce(seen, self.key(small))
        return F.mse_loss(seen, small)


class RunningMeans:
    """Class means that remember earlier batches, for tasks of a hundred classes and more.

    A batch of 128 holds about one image of each of 100 classes. Gradients flow through the part
    that the present batch contributes.
    """

    def __init__(self, decay: float = _DECAY) -> None:
        self._decay = decay
        self._means: Tensor | None = None
        self._shares: Tensor | None = None

    def update(self, means: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Blend a batch's (K, K) means and (K,) shares into the memory; returns the blend."""
        if self._means is None or self._shares is None:
            blended, frequency = means, shares
        else:
            kept = self._decay
            # a class met for the first time has nothing to remember
            old = torch.where(self._shares > 0, kept, 0.0)
            weight = torch.where(shares > 0, 1 - old, 0.0)[:, None]
            blended = (1 - weight) * self._means + weight * means
            frequency = kept * self._shares + (1 - kept) * shares
        self._means, self._shares = blended.detach(), frequency.detach()
        return blended, frequency / frequency.sum()


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(inputs, outputs)
    return materialise(layer, generator=generator)
