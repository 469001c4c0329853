"""Batch normalisation that looks at the images it is asked about."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class AlignedNorm(nn.Module):
    """A trained batch normalisation with some of the present batch's statistics in its own.

    Args:
        norm: trained, with running statistics.
        share: of the batch's mean and variance, 0 to 1.

    Source:
        Schneider et al. 2020, arXiv:2006.16971, with a fixed share.
    """

    def __init__(self, norm: _BatchNorm, share: float) -> None:
        super().__init__()
        self.norm, self.share = norm, share

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (n, c, ...) features by mean and variance over all but the channels."""
        kept = self.norm
        assert kept.running_mean is not None
        assert kept.running_var is not None
        dims = [0, *range(2, features.ndim)]
        shape = (1, -1, *([1] * (features.ndim - 2)))
        variance, mean = torch.var_mean(features, dims, correction=0)
        mean = torch.lerp(kept.running_mean, mean, self.share).view(shape)
        variance = torch.lerp(kept.running_var, variance, self.share).view(shape)
        normalised = (features - mean) * (variance + kept.eps).rsqrt()
        if not kept.affine:
            return normalised
        return normalised * kept.weight.view(shape) + kept.bias.view(shape)

    def extra_repr(self) -> str:
        """Tell the share."""
        return f"share={self.share}"


def align(clone: nn.Module, share: float) -> nn.Module:
    """Put `AlignedNorm` in place of every batch normalisation of a clone; returns the clone."""
    for parent in list(clone.modules()):
        for name, part in list(parent.named_children()):
            if isinstance(part, _BatchNorm) and part.running_mean is not None:
                setattr(parent, name, AlignedNorm(part, share))
    return clone
