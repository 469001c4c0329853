"""Finds rules of decoys in answers: a mixture of sector rules and of what a clone foretells.

A decoy of `dnf_plus` is the sector of two secret projections of the image. That family is known
from its source, and has so few numbers that a few hundred answers fix one of its members.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SHARPEST = 30.0
_BATCH = 1024
_RATE = 0.03  # of Adam for the rules
_GATE_RATE = 3e-3
_GATE_UNITS = 24
_UNSURE = 0.3  # share of an even guess in what the clone foretells
_LEAST_DEVIATION = 0.03


class Coordinates:
    """Standardised principal components of images, which rules read.

    Args:
        images: (n, c, h, w) in [0, 1] that the components are computed of.
        most: components at most.
    """

    def __init__(self, images: Tensor, *, most: int = 36) -> None:
        flat = thumbnails(images)
        self._mean = flat.mean(0)
        _, spread, axes = torch.linalg.svd(flat - self._mean, full_matrices=False)
        deviation = (spread / len(flat) ** 0.5).clamp_min(_LEAST_DEVIATION)
        self._map = (axes.T / deviation)[:, :most]

    def __call__(self, images: Tensor) -> Tensor:
        """Return the (n, d) coordinates of images."""
        points: Tensor = (thumbnails(images) - self._mean) @ self._map
        return points


class SectorRules(nn.Module):
    """Rules that give an image a class by the angle of two projections.

    Args:
        count: of rules.
        width: d of the coordinates.
        classes: K.
        generator: draws where the rules start.
    """

    def __init__(self, count: int, width: int, classes: int, generator: torch.Generator) -> None:
        super().__init__()
        where = generator.device

        def drawn(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=where)

        self.projections = nn.Parameter(drawn(count, width, 2) / width**0.5)
        self.offsets = nn.Parameter(torch.zeros(count, 1, 2, device=where))
        self.directions = nn.Parameter(F.normalize(drawn(count, classes, 2), dim=2))
        self.sharpness = nn.Parameter(torch.full((count, 1, 1), 2.0, device=where))

    def forward(self, points: Tensor) -> Tensor:
        """Return the (rules, n, K) log-probabilities of the classes of (n, d) points."""
        flat = torch.einsum("nd,rdk->rnk", points, self.projections) + self.offsets
        cosines = F.normalize(flat, dim=2) @ self.directions.transpose(1, 2)
        return (self.sharpness.clamp(0.1, _SHARPEST) * cosines).log_softmax(2)


class Explained(NamedTuple):
    """Who gave which answer.

    Attributes:
        shares: (n, rules + 1) probability that each rule, or last of all the network itself, gave
            this answer.
        likelihood: mean log-likelihood of the answers in nats.
    """

    shares: Tensor
    likelihood: float


def explain(
    points: Tensor,
    labels: Tensor,
    foretold: Tensor,
    *,
    seen: Tensor,
    decoys: int,
    rules: int,
    steps: int,
    generator: torch.Generator,
) -> Explained:
    """Fit a mixture of sector rules and of a clone to answers, with a gate that reads the image.

    Args:
        points: (n, d) coordinates of the images.
        labels: (n,) answered classes.
        foretold: (n, K) what a clone that has not seen the answer gives each class.
        seen: (n, m) what the gate reads of the images.
        decoys: the first so many answers are decoys of the first rule for certain.
        rules: how many there are: exits of the victim that answer with decoys.
        steps: of Adam.
        generator: draws starts and batches, on the points' device.
    """
    where, classes = points.device, foretold.shape[1]
    fitted = SectorRules(rules, points.shape[1], classes, generator)
    gate = _gate(seen.shape[1], rules + 1, generator)
    even = torch.full_like(foretold, 1 / classes)
    genuine = torch.lerp(foretold, even, _UNSURE).gather(1, labels[:, None]).log().T  # (1, n)
    optimiser = torch.optim.Adam(
        [
            {"params": fitted.parameters(), "lr": _RATE},
            {"params": gate.parameters(), "lr": _GATE_RATE, "weight_decay": 1e-3},
        ]
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        drawn = torch.randint(len(points), (_BATCH,), generator=generator, device=where)
        joint = _joint(fitted(points[drawn]), gate(seen[drawn]), labels[drawn], genuine[:, drawn])
        loss = -torch.where(drawn < decoys, joint[0], joint.logsumexp(0)).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        joint = _joint(fitted(points), gate(seen), labels, genuine)
    total = joint.logsumexp(0)
    return Explained((joint - total).exp().T, float(total.mean()))


def _joint(foretold: Tensor, gated: Tensor, labels: Tensor, genuine: Tensor) -> Tensor:
    """Return (rules + 1, n) log-probabilities of origin and answer."""
    column = labels.view(1, -1, 1).expand(len(foretold), -1, 1)
    answered = torch.cat([foretold.gather(2, column).squeeze(2), genuine])
    return gated.log_softmax(1).T + answered


def _gate(width: int, parts: int, generator: torch.Generator) -> nn.Module:
    """Return a small perceptron whose weights are drawn from the generator."""
    where = generator.device
    # `nn.Linear` alone would draw its weights from the global stream
    first = nn.utils.skip_init(nn.Linear, width, _GATE_UNITS, device=where)
    last = nn.utils.skip_init(nn.Linear, _GATE_UNITS, parts, device=where)
    with torch.no_grad():
        for layer in (first, last):
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.uniform_(-bound, bound, generator=generator)
            layer.bias.zero_()
    return nn.Sequential(first, nn.ReLU(), last)


def thumbnails(images: Tensor) -> Tensor:
    """Reduce images to at most 8x8 greys, as decoys do: (n, g * g) in [0, 1]."""
    side = min(8, *images.shape[2:])
    return F.adaptive_avg_pool2d(images.mean(1, keepdim=True), side).flatten(1)
