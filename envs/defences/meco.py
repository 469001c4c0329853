"""MeCo: a victim that sees each query through a random filter, and was trained to cope with it.

Source:
    Wang et al. 2023, Defending against Data-Free Model Extraction by Distributionally Robust
    Defensive Training, NeurIPS.
"""

import math
from dataclasses import asdict
from typing import Literal, get_args

import torch
from torch import Tensor

from envs.data.images import ImageSet, Normalisation
from envs.defences.base import Defence
from envs.defences.harden_kit import HardenKit
from envs.defences.needs import Need
from envs.defences.random_filter import RandomFilter
from envs.defences.randomness import Chance
from envs.defences.robust_training import RobustTraining, train_robustly
from envs.defences.surrogate import begin_as, like_victim, remembered
from envs.errors import ScenarioError
from envs.exits.random_rules import Seeding
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged
from envs.ranges import Amount, Natural, Share
from envs.training.recipes import recipe, recipe_for
from envs.victim.victim import Victim

Retrain = Literal["scratch", "fine-tune", "off"]

_SCALES = tuple(round(0.02 * step, 2) for step in range(1, 26))  # 0.02 to 0.5
_CALIBRATION_BATCH, _CALIBRATION_ANSWERS = 512, 5000
_FINE_TUNING = 0.1


class MeCo(Defence):
    """Perturb each query by a random filter of itself; the victim is trained to stay accurate.

    The victim sees x + scale h(x) in normalised pixels, with a new filter h for every query, on
    whatever way the query comes.

    Hard labels: the argmax of the filtered pass. Near decision boundaries it may differ from query
    to query, and from the undefended victim's. There is no `preserve_top1`: what is perturbed is
    the image, and to keep the clean label would take a second forward pass.

    Args:
        scale: of the filter; published 0.27 for CIFAR-10 and 0.2 for CIFAR-100. If not given, the
            largest of 0.02 to 0.5 that costs at most `utility_loss` on the validation images.
        utility_loss: accuracy that scale may cost, as a share, against the better of the victim
            as it was and as it was retrained.
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
        Training steps are those of the released code, the sign of the kernel's slope included.
        Ours differs where the released code runs a further pass, whose output it does not use,
        through batch normalisation, leaves out the last, smaller batch of an epoch, and trains
        199 epochs. It filters the queries that train the clone, but not those that estimate
        gradients; here every query is filtered. What the filter leaves outside [0, 1] is not cut.

    Source:
        Wang et al. 2023, NeurIPS, and its released code.
    """

    def __init__(
        self,
        *,
        scale: Amount | None = None,
        utility_loss: Share = 0.01,
        spread: Amount = 2.25,
        retrain: Retrain = "scratch",
        epochs: Natural | None = None,
        published: bool = False,
        svgd_steps: Natural = 1,
        svgd_size: Amount = 1e-4,
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

    @property
    def needs(self) -> frozenset[Need]:
        """A victim that may be trained anew, unless it only filters."""
        return (
            frozenset()
            if self.retrain == "off"
            else frozenset({"retraining", "another of its kind"})
        )

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Retrain the victim and settle the scale."""
        self._chance.take_key(kit, "meco")
        self._filter = RandomFilter(victim.image_shape, self.spread)
        self.overhead_macs = self._filter.macs
        self._mean, self._std = (
            torch.tensor(values, device=victim.device).view(-1, 1, 1)
            for values in _normalisation(victim, kit)
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
            begin_as(network, victim, name="meco")
            plan = plan.with_changes(learning_rate=_FINE_TUNING * plan.learning_rate)

        def train(fresh: Staged) -> None:
            train_robustly(fresh, victim, kit, plan, robust=self.training)

        spec = {
            "recipe": plan.key(),
            "robust": asdict(self.training) | {"objective": "mean"},  # others were stored before
            "start": self.retrain,
        }
        trained = remembered("meco", spec, network, train, victim=victim, kit=kit)
        return Victim(MultiExit(trained, ()), execution=victim.execution, chunk=victim.chunk)

    def _calibrated(self, victim: Victim, hardened: Victim, kit: HardenKit) -> float:
        """Find the largest scale that costs little enough on the validation images, by bisection.

        Filters are drawn often enough for thousands of answers: the luck of a single draw on a
        few hundred images chose scales that cost four points.
        """
        images = kit.data.validation.to(victim.device)
        unfiltered = max(_accuracy(one, images, images.images()) for one in (victim, hardened))
        kept = 0  # scales that cost little enough
        low, high = 0, len(_SCALES)
        while low < high:
            middle = (low + high) // 2
            accuracy = self._filtered_accuracy(hardened, images, _SCALES[middle], kit)
            if accuracy >= unfiltered - self.utility_loss:
                kept = low = middle + 1
            else:
                high = middle
        scale = _SCALES[max(kept - 1, 0)]
        kit.report(
            f"meco: scale {scale}"
            if kept
            else f"meco: even the least scale, {scale}, costs more than {self.utility_loss:.1%} of "
            f"accuracy; it is served nevertheless"
        )
        return scale

    def _filtered_accuracy(
        self, hardened: Victim, images: ImageSet, scale: float, kit: HardenKit
    ) -> float:
        """Measure accuracy under so many filters that some thousand answers count."""
        self._scale = scale
        generator = kit.streams.torch("meco/calibration", hardened.device)
        draws = math.ceil(_CALIBRATION_ANSWERS / len(images))
        total = 0.0
        for _ in range(draws):
            seen = self.perturb_images(images.images(), strength=1.0, generator=generator)
            total += _accuracy(hardened, images, seen)
        return total / draws


def _normalisation(victim: Victim, kit: HardenKit) -> Normalisation:
    """Return the victim's normalisation; the data's where one of others may do it inside."""
    plan = victim.network.backbone.plan
    if set(plan.mean) == {0.0} and set(plan.std) == {1.0}:
        return kit.data.mean, kit.data.std
    return plan.mean, plan.std


def _accuracy(victim: Victim, images: ImageSet, seen: Tensor) -> float:
    """Measure accuracy on images of a set in the form in which the victim sees them."""
    with torch.no_grad():
        parts = [victim.posteriors(part).argmax(1) for part in seen.split(_CALIBRATION_BATCH)]
    return (torch.cat(parts) == images.labels).double().mean().item()
