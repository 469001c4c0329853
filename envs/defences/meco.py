"""MeCo: a victim that sees each query through a random filter, and was trained to cope with it.

Source:
    Wang et al. 2023, Defending against Data-Free Model Extraction by Distributionally Robust
    Defensive Training, NeurIPS.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.defences.base import Defence, HardenKit
from envs.defences.chance import Chance
from envs.defences.random_filter import RandomFilter
from envs.defences.surrogate import like_victim, remembered
from envs.errors import ScenarioError
from envs.exits import Seeding
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged
from envs.training.loop import fit
from envs.training.recipes import Recipe, recipe, recipe_for
from envs.victim import Victim

LogitsOf = Callable[[Tensor], Tensor]
Retrain = Literal["scratch", "fine-tune", "off"]

_SCALES = tuple(round(0.02 * step, 2) for step in range(25, 0, -1))  # 0.5 down to 0.02
_CALIBRATION_BATCH = 512
_FINE_TUNING = 0.1


@dataclass(frozen=True, slots=True)
class RobustTraining:
    """What one step of MeCo's training weighs.

    Args:
        scale: of the filter.
        low: least amplitude of the filter, drawn once a batch.
        high: greatest.
        steps: gradient steps that move the images before they are filtered; 0 leaves them.
        step_size: of such a step. At the published 1e-4 pixels move by about 1e-8.
        penalty: gamma, on the squared distance they moved.
        consistency: weight of the mean absolute change of the logits by the filter.
    """

    scale: float = 0.5
    low: float = 0.3
    high: float = 0.6
    steps: int = 1
    step_size: float = 1e-4
    penalty: float = 0.2
    consistency: float = 1e-3


class MeCo(Defence):
    """Perturb each query by a random filter of itself; the victim is trained to stay accurate.

    The victim sees x + scale h(x) in normalised pixels, with a new filter h for every query, on
    whatever way the query comes. Its answers are served as they are, so that a hard label may
    differ from query to query.

    Args:
        scale: of the filter; published 0.27 for CIFAR-10 and 0.2 for CIFAR-100. If not given, the
            largest of 0.02 to 0.5 that costs at most `utility_loss` on the validation images.
        utility_loss: accuracy it may cost, as a share.
        spread: Gaussian noise on the filter's weights when serving, relative to their deviation;
            published 1.5 squared for CIFAR-10 and 0.5 squared for CIFAR-100.
        retrain: "scratch" trains a new network, as published; "fine-tune" goes on from the
            victim's weights at a tenth of the rate; "off" only filters.
        epochs: of that training; those of the recipe if not given.
        published: train by the published recipe (200 epochs, batch 64, steps) instead of the
            default for the image size.
        svgd_steps: steps that move training images towards a higher loss; 0 switches it off.
        svgd_size: size of such a step, see `RobustTraining`; 1 to 100 makes it act.
        randomness: "fresh" filters, or filters that are a keyed function of the image ("hash").

    Raises:
        ValueError: a value outside its range.

    Notes:
        The released code filters the queries that train the clone, but not those that estimate
        gradients; here every query is filtered. What the filter leaves outside [0, 1] is not cut.

    Source:
        Wang et al. 2023, NeurIPS, and its released code.
    """

    def __init__(
        self,
        *,
        scale: float | None = None,
        utility_loss: float = 0.01,
        spread: float = 2.25,
        retrain: Retrain = "scratch",
        epochs: int | None = None,
        published: bool = False,
        svgd_steps: int = 1,
        svgd_size: float = 1e-4,
        randomness: Seeding = "fresh",
    ) -> None:
        if scale is not None and scale < 0:
            raise ValueError(f"expected a scale of at least 0, got {scale}")
        if retrain not in get_args(Retrain):
            raise ValueError(f"expected retrain 'scratch', 'fine-tune' or 'off', got {retrain!r}")
        if spread < 0 or svgd_steps < 0 or svgd_size < 0:
            raise ValueError(
                f"expected values of at least 0, got {spread=}, {svgd_steps=}, {svgd_size=}"
            )
        self.scale, self.utility_loss, self.spread = scale, utility_loss, spread
        self.retrain, self.epochs, self.published = retrain, epochs, published
        self.training = RobustTraining(steps=svgd_steps, step_size=svgd_size)
        self._chance = Chance(randomness)
        self._filter: RandomFilter | None = None
        self._mean = self._std = torch.zeros(())
        self._scale = 0.0 if scale is None else scale

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Retrain the victim and settle the scale."""
        self._chance.take_key(kit, "meco")
        self._filter = RandomFilter(victim.image_shape, self.spread)
        self.overhead_macs = self._filter.macs
        plan = victim.network.backbone.plan
        self._mean, self._std = (
            torch.tensor(values, device=victim.device).view(-1, 1, 1)
            for values in (plan.mean, plan.std)
        )
        hardened = victim if self.retrain == "off" else self._retrained(victim, kit)
        if self.scale is None:
            self._scale = self._calibrated(victim, hardened, kit)
        return hardened

    def perturb_images(
        self, images: Tensor, *, strength: float, generator: torch.Generator
    ) -> Tensor:
        """Return the filtered images."""
        scale = strength * self._scale
        if scale == 0 or self._filter is None:
            return images
        uniforms = self._chance.uniforms(images, self._filter.draws, generator)
        shift = self._filter((images - self._mean) / self._std, uniforms)
        return images + scale * self._std * shift

    def _retrained(self, victim: Victim, kit: HardenKit) -> Victim:
        if victim.num_exits > 1:
            raise ScenarioError(
                "meco trains the whole victim anew, which would spoil exits that are there "
                "already; put it before the defence that adds them, or set retrain = 'off'"
            )
        network = like_victim(victim, kit.streams.torch("meco/weights", victim.device))
        plan = recipe("meco") if self.published else recipe_for(victim.image_shape)
        if self.epochs is not None:
            plan = plan.with_changes(epochs=self.epochs)
        if self.retrain == "fine-tune":
            network.load_state_dict(victim.network.backbone.state_dict())
            plan = plan.with_changes(learning_rate=_FINE_TUNING * plan.learning_rate)

        def train(fresh: Staged) -> None:
            train_robustly(fresh, victim, kit, plan, robust=self.training)

        spec = {"recipe": asdict(plan), "robust": asdict(self.training), "start": self.retrain}
        trained = remembered("meco", spec, network, train, victim=victim, kit=kit)
        return Victim(MultiExit(trained, ()), execution=victim.execution, chunk=victim.chunk)

    def _calibrated(self, victim: Victim, hardened: Victim, kit: HardenKit) -> float:
        """Find the largest scale that costs little enough on the validation images."""
        images = kit.data.validation.to(victim.device)
        wanted = _accuracy(victim, images.images(), images.labels) - self.utility_loss
        for scale in _SCALES:
            self._scale = scale
            generator = kit.streams.torch("meco/calibration", victim.device)
            seen = self.perturb_images(images.images(), strength=1.0, generator=generator)
            if _accuracy(hardened, seen, images.labels) >= wanted:
                kit.report(f"meco: scale {scale}")
                return scale
        kit.report(
            f"meco: even the least scale, {_SCALES[-1]}, costs more than {self.utility_loss:.1%} "
            f"of accuracy; it is served nevertheless"
        )
        return _SCALES[-1]


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
    """Move images together towards a higher loss, by Stein variational gradient ascent.

    The log-density is the cross-entropy minus penalty times the mean squared distance from the
    start. With a kernel k over images, image i moves by
    step_size / n * sum_j (k(z_j, z_i) grad_j + d/dz_j k(z_j, z_i)).

    Args:
        logits_of: the network.
        moved: (n, c, h, w), z.
        start: (n, c, h, w).
        labels: (n,) int64.
        robust: step size and penalty.

    Returns:
        (n, c, h, w), without gradient.

    Source:
        Liu and Wang 2016, arXiv:1608.04471, equation 8; its use here: MeCo's released code.
    """
    points = moved.detach().requires_grad_()
    with torch.enable_grad():
        distance = (points - start).square().flatten(1).mean(1).sum()
        density = F.cross_entropy(logits_of(points), labels, reduction="sum")
        (ascent,) = torch.autograd.grad(density - robust.penalty * distance, points)
    rows = points.detach().flatten(1)
    kernel, repulsion = rbf(rows)
    step = (kernel @ ascent.flatten(1) + repulsion) / len(rows)
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


def _accuracy(victim: Victim, images: Tensor, labels: Tensor) -> float:
    parts = [victim.posteriors(part).argmax(1) for part in images.split(_CALIBRATION_BATCH)]
    return (torch.cat(parts) == labels).double().mean().item()
