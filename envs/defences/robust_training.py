"""MeCo's training: a network that answers filtered images as it answers clean ones.

Source:
    Wang et al. 2023, Defending against Data-Free Model Extraction by Distributionally Robust
    Defensive Training, NeurIPS, and its released code.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.defences.harden_kit import HardenKit
from envs.defences.random_filter import RandomFilter
from envs.nets.staged import Staged
from envs.training.loop import fit
from envs.training.recipes import Recipe
from envs.victim.victim import Victim

LogitsOf = Callable[[Tensor], Tensor]
"""Maps (n, c, h, w) images to (n, K) logits."""


@dataclass(frozen=True, slots=True)
class RobustTraining:
    """What one step of MeCo's training weighs.

    Args:
        scale: of the filter.
        low: least amplitude of the filter, drawn once a batch.
        high: greatest.
        steps: gradient steps that move the images before they are filtered; 0 leaves them.
        step_size: of such a step. At the published 1e-4 pixels move by about 1e-8.
        penalty: gamma, on the mean over the images of the squared distance they moved.
        consistency: weight of the mean absolute change of the logits by the filter.
    """

    scale: float = 0.5
    low: float = 0.3
    high: float = 0.6
    steps: int = 1
    step_size: float = 1e-4
    penalty: float = 0.2
    consistency: float = 1e-3


def train_robustly(
    network: Staged, victim: Victim, kit: HardenKit, plan: Recipe, *, robust: RobustTraining
) -> None:
    """Train a network to answer filtered images as it answers clean ones, in place."""
    images = kit.data.train.to(victim.device)
    loss = RobustLoss(
        robust,
        RandomFilter(victim.image_shape),
        network.plan.mean,
        std=network.plan.std,
        generator=kit.streams.torch("meco/filters", victim.device),
    )
    generator = kit.streams.torch("meco/training", victim.device)
    fit(network, images.pixels, images.labels, plan, generator=generator, loss=loss)


class RobustLoss:
    """Cross-entropy on images and on moved and filtered ones, and agreement under the filter.

    Args:
        robust: the weights of the terms.
        random_filter: the family of filters.
        mean: of the data by channel.
        std: of the data by channel.
        generator: draws filters and amplitudes, on the images' device.
    """

    def __init__(
        self,
        robust: RobustTraining,
        random_filter: RandomFilter,
        mean: tuple[float, ...],
        *,
        std: tuple[float, ...],
        generator: torch.Generator,
    ) -> None:
        self._robust, self._filter, self._generator = robust, random_filter, generator
        self._mean, self._std = (
            torch.tensor(values, device=generator.device).view(-1, 1, 1) for values in (mean, std)
        )

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch of (n, c, h, w) images in [0, 1]."""
        robust = self._robust
        pixels = (images - self._mean) / self._std

        def logits_of(normalised: Tensor) -> Tensor:
            logits: Tensor = network(normalised * self._std + self._mean)
            return logits

        moved = pixels
        for _ in range(robust.steps if robust.step_size > 0 else 0):
            moved = svgd_step(logits_of, moved, pixels, labels=labels, robust=robust)
        filtered = moved + robust.scale * self._filter(
            moved, self._uniforms(len(images), self._filter.draws), self._amplitude()
        )
        noisy = logits_of(filtered)
        change = (noisy - logits_of(moved)).abs().mean()
        clean = F.cross_entropy(network(images), labels)
        return clean + F.cross_entropy(noisy, labels) + robust.consistency * change

    def _uniforms(self, *size: int) -> Tensor:
        return torch.rand(size, generator=self._generator, device=self._generator.device)

    def _amplitude(self) -> Tensor:
        span = self._robust.high - self._robust.low
        return self._robust.low + span * self._uniforms(1)


def svgd_step(
    logits_of: LogitsOf, moved: Tensor, start: Tensor, *, labels: Tensor, robust: RobustTraining
) -> Tensor:
    """Move images towards a higher loss, by the released code's Stein variational step.

    The objective is the batch's mean cross-entropy minus penalty times the mean over images of
    the squared distance from the start, summed over pixels. With a kernel k over images, image i
    moves by step_size / n * sum_j (k(z_j, z_i) grad_j - d/dz_j k(z_j, z_i)).

    Args:
        logits_of: the network.
        moved: (n, c, h, w), z.
        start: (n, c, h, w).
        labels: (n,) int64.
        robust: step size and penalty.

    Returns:
        (n, c, h, w), without gradient.

    Notes:
        The sign of the kernel's slope is that of the released code: it draws images together,
        where Stein variational ascent drives them apart.

    Source:
        MeCo's released code; the step without that sign is Liu and Wang 2016,
        arXiv:1608.04471, equation 8.
    """
    points = moved.detach().requires_grad_()
    with torch.enable_grad():
        distance = (points - start).square().flatten(1).sum(1).mean()
        objective = F.cross_entropy(logits_of(points), labels) - robust.penalty * distance
        (ascent,) = torch.autograd.grad(objective, points)
    rows = points.detach().flatten(1)
    kernel, repulsion = rbf(rows)
    step = (kernel @ ascent.flatten(1) - repulsion) / len(rows)
    return (rows + robust.step_size * step).view_as(moved)


def rbf(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Compute an RBF kernel and the force with which it drives points apart.

    k(x, y) = exp(-|x - y|^2 / h), h = 0.05 median(|x - y|^2) / log(n + 1).

    Args:
        rows: (n, d).

    Returns:
        (n, n) kernel, and (n, d): for each i, sum_j d/dx_j k(x_j, x_i).
    """
    squares = torch.cdist(rows, rows).square()
    width = (0.05 * squares.median() / math.log(len(rows) + 1)).clamp_min(1e-12)
    kernel = (-squares / width).exp()
    # d/dx_j k = -2 (x_j - x_i) k / h
    repulsion = 2 * (rows * kernel.sum(1, keepdim=True) - kernel @ rows) / width
    return kernel, repulsion
