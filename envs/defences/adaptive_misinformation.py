"""Adaptive misinformation: wrong answers where a detector does not know the image.

The nearest relative of a dynamic fortress, without its saving of compute.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from envs.defences.base import Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence, Preserve
from envs.defences.needs import Need
from envs.defences.surrogate import Surrogate, begin_as, like_victim, remembered
from envs.nets.staged import Staged
from envs.ranges import Positive, Share
from envs.training.checkpoint_file import JSON
from envs.training.loop import cross_entropy, fit
from envs.training.ood import SourceSpec, ood_source, source_weights
from envs.training.ood_sources import Draw, Material
from envs.training.recipes import Recipe, recipe_for
from envs.victim.victim import Victim

Detector = Literal["outlier-exposed", "victim"]

_EXPOSURE = 0.5  # weight of the outliers' term
_FINE_TUNING = 0.1  # of the recipe's learning rate, for what starts from the victim's weights


class AdaptiveMisinformation(PosteriorDefence):
    """Serve (1 - a) y + a y_mis, with a near 1 where a detector is not confident.

    a = 1 / (1 + exp(steepness (s - gate))), with s the detector's confidence; y_mis comes from a
    network trained to give every training image anything but its label.

    Hard labels: wrong ones wherever the detector is unsure, benign users' unusual images included;
    with `preserve_top1` "on" or "label_only" the undefended victim's, which leaves a hard-label
    attacker undisturbed.

    Args:
        gate: confidence at which half of the answer is misinformation, 0 to 1.
        steepness: how sharply it sets in, per unit of confidence.
        detector: "outlier-exposed", the victim trained further to be unsure of outliers, or
            "victim", the answer's own confidence.
        ood: source of the outliers, a list of them, or weights by name, see `envs.training.ood`.
        epochs: of each training.
        preserve_top1: "off" (as published), "on" or "label_only".

    Raises:
        ValueError: a value outside its range.

    Notes:
        Both networks are trained for few epochs: the detector starts from the victim's weights,
        and the misinformer only has to be wrong.

    Source:
        Kariyappa and Qureshi 2020, Defending Against Model Stealing Attacks With Adaptive
        Misinformation, CVPR, arXiv:1911.07100; outlier exposure: Hendrycks et al. 2019,
        arXiv:1812.04606. Steepness and gate as in ModelGuard (Tang et al. 2024).
    """

    def __init__(
        self,
        *,
        gate: Share = 0.7,
        steepness: Positive = 1000.0,
        detector: Detector = "outlier-exposed",
        ood: str | list[str] | dict[str, float] = "generator",
        epochs: int = 10,
        preserve_top1: Preserve = "off",
    ) -> None:
        if not 0 <= gate <= 1:
            raise ValueError(f"expected a gate from 0 to 1, got {gate}")
        if steepness <= 0 or epochs < 1:
            raise ValueError(
                f"expected a steepness above 0 and at least one epoch, got {steepness=}, {epochs=}"
            )
        super().__init__(epsilon=2.0, preserve_top1=preserve_top1)
        self.gate, self.steepness, self.detector = gate, steepness, detector
        self.ood, self.epochs = ood, epochs
        self._liar: Surrogate | None = None
        self._judge: Surrogate | None = None

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Sources of the outliers, where a detector is trained on some."""
        return tuple(source_weights(self.ood)) if self.detector == "outlier-exposed" else ()

    @property
    def needs(self) -> frozenset[Need]:
        """Networks like the victim, for misinformation and detector."""
        return frozenset({"another of its kind"})

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Train the misinformer and the detector, or recall them."""
        recipe = recipe_for(victim.image_shape).with_changes(epochs=self.epochs)
        self._liar = Surrogate(misinformer(victim, kit, recipe))
        self.overhead_macs = self._liar.macs
        if self.detector == "outlier-exposed":
            self._judge = Surrogate(_outlier_exposed(victim, kit, recipe, self.ood))
            self.overhead_macs += self._judge.macs
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Mix misinformation in where the detector is unsure."""
        assert self._liar is not None, "harden comes first"
        judged = clean if self._judge is None else self._judge.posteriors(serving.images)
        share = misinformed(judged.amax(1, keepdim=True), self.gate, self.steepness)
        share = serving.strength * share
        return (1 - share) * clean + share * self._liar.posteriors(serving.images)


def misinformed(confidence: Tensor, gate: float, steepness: float) -> Tensor:
    """Return the share of misinformation, 1 / (1 + exp(steepness (confidence - gate)))."""
    share: Tensor = torch.sigmoid(steepness * (gate - confidence))
    return share


def miss_the_label(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Measure the mean of -log(1 - p_label), the loss of a network that is to be wrong."""
    logits = network(images).float()
    others = logits.scatter(1, labels.unsqueeze(1), -torch.inf)
    misses = logits.logsumexp(1) - others.logsumexp(1)
    mean: Tensor = misses.mean()
    return mean


class OutlierExposure:
    """Cross-entropy on images of the task, and on outliers towards the uniform posterior.

    Args:
        draw: draws as many outliers as there are images in the batch.
    """

    def __init__(self, draw: Draw) -> None:
        self._draw = draw

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        outliers = self._draw(len(images))
        logits = network(torch.cat((images, outliers))).float()
        known, unknown = logits.split([len(images), len(outliers)])
        # cross-entropy against the uniform posterior
        exposure: Tensor = unknown.logsumexp(1).mean() - unknown.mean()
        return cross_entropy(known, labels) + _EXPOSURE * exposure


def misinformer(victim: Victim, kit: HardenKit, recipe: Recipe) -> Staged:
    """Train a network like the victim to give its own images anything but their labels."""
    network = like_victim(victim, kit.streams.torch("misinformer/weights", victim.device))
    train_set = kit.data.train.to(victim.device)

    def train(fresh: Staged) -> None:
        generator = kit.streams.torch("misinformer/training", victim.device)
        fit(
            fresh, train_set.pixels, train_set.labels, recipe,
            generator=generator, loss=miss_the_label,
        )  # fmt: skip

    spec: dict[str, JSON] = {"recipe": recipe.key()}
    return remembered("misinformer", spec, network, train, victim=victim, kit=kit)


def _outlier_exposed(victim: Victim, kit: HardenKit, recipe: Recipe, ood: SourceSpec) -> Staged:
    network = like_victim(victim, kit.streams.torch("detector/weights", victim.device))
    begin_as(network, victim, name="adaptive-misinformation")
    train_set = kit.data.train.to(victim.device)
    gentle = recipe.with_changes(learning_rate=_FINE_TUNING * recipe.learning_rate)

    def train(copy: Staged) -> None:
        generator = kit.streams.torch("detector/training", victim.device)
        outliers = kit.streams.torch("detector/outliers", victim.device)
        loss = OutlierExposure(ood_source(ood, Material(train_set, outliers, kit.load_pool)))
        fit(copy, train_set.pixels, train_set.labels, gentle, generator=generator, loss=loss)

    source: JSON = ood if isinstance(ood, str) else dict(source_weights(ood))
    spec: dict[str, JSON] = {"recipe": gentle.key(), "ood": source, "exposure": _EXPOSURE}
    return remembered("outlier-exposed", spec, network, train, victim=victim, kit=kit)
