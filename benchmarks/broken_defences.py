"""Five defences that only seem to protect, each by one well-known fault: what flags are tried on.

arena assess benchmarks/broken_defences.toml
"""

import torch
from torch import Tensor

from envs.data.images import to_pixels
from envs.defences.base import Defence, Serving
from envs.defences.dnf import DNF


class FreshNoise(Defence):
    """Mixes each answer with a posterior that is drawn anew at every query."""

    epsilon = 2.0

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return the mixtures, seven tenths of each noise."""
        noise = torch.empty_like(posteriors).exponential_(generator=serving.generator)
        return torch.lerp(posteriors, noise / noise.sum(1, keepdim=True), 0.7 * serving.strength)


class Rounded(Defence):
    """Rounds answers to halves, so that most finite differences vanish."""

    epsilon = 2.0
    interpolates = False

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return rounded answers; one that is rounded away altogether becomes even."""
        rounded = (2 * posteriors).round() / 2
        total = rounded.sum(1, keepdim=True)
        even = torch.full_like(rounded, 1 / rounded.shape[1])
        return torch.where(total > 0, rounded / total.clamp_min(0.5), even)


class OddImages(Defence):
    """Moves every answer to an image with an odd sum of bytes by one class."""

    epsilon = 2.0
    interpolates = False

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return the answers, those of odd images turned by one class."""
        odd = to_pixels(serving.images).flatten(1).sum(1, dtype=torch.int64) % 2 == 1
        return torch.where(odd[:, None], posteriors.roll(1, 1), posteriors)


class EarlyConstant(DNF):
    """Gives one constant answer wherever an image leaves early; the last exit answers truly."""

    epsilon = 2.0

    def __init__(self) -> None:
        super().__init__()

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return the first class, and for certain, of images that left early."""
        early = serving.exits < serving.victim.num_exits - 1
        constant = torch.zeros_like(posteriors)
        constant[:, 0] = 1.0
        return torch.where(early.to(posteriors.device)[:, None], constant, posteriors)


class Clipped(Defence):
    """Clips confidences, so that an answer says less than its label."""

    epsilon = 2.0
    interpolates = False

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return answers whose largest entry is a hundredth above an even share of the rest."""
        classes = posteriors.shape[1]
        clipped = torch.full_like(posteriors, 1 / classes - 0.01 / (classes - 1))
        return clipped.scatter(1, posteriors.argmax(1, keepdim=True), 1 / classes + 0.01)
