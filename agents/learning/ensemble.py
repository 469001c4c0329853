"""Trains several clones alike, which answer together.

Where clones of one training disagree, the victim has not been understood yet; and this
disagreement has a gradient, which the victim's has not.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class Committee(nn.Module):
    """Clones that answer by the mean of their posteriors.

    Args:
        members: networks that map (n, c, h, w) in [0, 1] to (n, K) logits.
    """

    def __init__(self, members: list[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def each(self, images: Tensor) -> Tensor:
        """Return the logits of every member, (members, n, K)."""
        return torch.stack([member(images) for member in self.members])

    def forward(self, images: Tensor) -> Tensor:
        """Return the (n, K) logarithms of the mean posterior, which serve as logits."""
        return self.mean_logits(self.each(images))

    @staticmethod
    def mean_logits(logits: Tensor) -> Tensor:
        """Return the (n, K) logarithms of the mean posterior of (members, n, K) logits."""
        return torch.logsumexp(logits.log_softmax(2), 0) - math.log(len(logits))

    @classmethod
    def of(cls, new_clone: Callable[[], nn.Module], count: int = 2) -> "Committee":
        """Build a committee of freshly initialised clones."""
        return cls([new_clone() for _ in range(count)])


def disputed(logits: Tensor) -> Tensor:
    """Measure how far members are apart, by image.

    Args:
        logits: (members, n, K).

    Returns:
        (n,) sample deviation over the members of each class's probability, mean over classes.

    Source:
        Rosenthal et al. 2023 (DisGUIDE), AAAI, and its released code.
    """
    shares = logits.softmax(2)
    # the root has no slope at 0, where members agree to the bit
    spread: Tensor = shares.var(0).clamp_min(1e-12).sqrt()
    return spread.mean(1)


def apart(logits: Tensor) -> Tensor:
    """Measure the mean absolute distance of two members' logits, (n,) of (2, n, K).

    Source:
        Beetham et al. 2023 (Dual Students), ICLR.
    """
    distance = logits[0] - logits[1]
    return distance.abs().mean(1)


def diversity(logits: Tensor) -> Tensor:
    """Measure how one-sided a batch is: the negative entropy of its mean posterior.

    Args:
        logits: (n, K).

    Returns:
        0-d in nats; -log K where all classes are equally frequent, 0 for a single class.

    Source:
        L_div of Sanyal et al. 2022 (DFMS-HL), arXiv:2204.11022; also in DisGUIDE.
    """
    mean = logits.softmax(1).mean(0)
    # a class of probability 0 has an infinite slope, and would leave NaN behind
    negative_entropy: Tensor = (mean * mean.clamp_min(1e-12).log()).sum()
    return negative_entropy
