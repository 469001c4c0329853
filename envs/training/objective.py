"""What the exits of a fortress are trained to minimise: the method's equations 2 and 3.

`BoundObjective` puts a bound in place of each information term; `ReleasedObjective` is the loss
of the authors' released code, which has no such terms and turns the sign of one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.errors import ScenarioError
from envs.nets.multi_exit import MultiExit
from envs.training import losses
from envs.training.probes import DetailReader, LabelProbe, RunningMeans, thumbnail_side

Estimator = Literal["C", "M", "U", "none"]
"""Of the information between code and OOD label: clamped CLUB, marginals, uniform answers."""

Detail = Literal["R", "N", "none"]
"""Of the information between code and OOD image: a decoder, or InfoNCE."""

MANY_CLASSES = 100
"""From so many classes on, marginals are matched over several batches."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Weights and estimators of the objective.

    Args:
        alpha: weight of the entropies, one per exit, the last one included.
        estimator: how the label information of OOD codes is measured.
        x_info: how their image information is measured.
        w_c: weight of the rate of in-distribution codes; 0 makes codes deterministic.
        w_y: weight of the label information.
        w_x: weight of the image information.
        w_s: weight against answers that collapse to one class.
    """

    alpha: tuple[float, ...]
    estimator: Estimator = "none"
    x_info: Detail = "none"
    w_c: float = 0.0
    w_y: float = 1.0
    w_x: float = 0.1
    w_s: float = 0.0


class Objective(Protocol):
    """What a training step needs of an objective.

    `pooled` holds what each exit answers from, as `MultiExit.features` gives it.
    """

    def id_loss(self, pooled: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the loss of in-distribution images and their (n,) labels."""
        ...

    def ood_loss(self, pooled: Sequence[Tensor], labels: Tensor, small: Tensor) -> Tensor:
        """Return the loss of OOD images, their (n,) Y_ood and their thumbnails."""
        ...

    def extra_parameters(self) -> list[nn.Parameter]:
        """Return weights that are trained beside the network's, if any."""
        ...


class ReleasedObjective:
    """The loss of the released code, over all exits.

    Args:
        network: whose exits are trained.
        alpha: weight of the entropies, one per exit.
    """

    def __init__(self, network: MultiExit, alpha: Sequence[float]) -> None:
        self._network, self._alpha = network, tuple(alpha)

    def id_loss(self, pooled: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the in-distribution part."""
        return losses.released_loss(self._logits(pooled), labels, alpha=self._alpha, ood=False)

    def ood_loss(self, pooled: Sequence[Tensor], labels: Tensor, small: Tensor) -> Tensor:
        """Return the out-of-distribution part; the thumbnails are not used."""
        return losses.released_loss(self._logits(pooled), labels, alpha=self._alpha, ood=True)

    def extra_parameters(self) -> list[nn.Parameter]:
        """Return nothing."""
        return []

    def _logits(self, pooled: Sequence[Tensor]) -> list[Tensor]:
        return [self._network.answer(e, vectors) for e, vectors in enumerate(pooled)]


class BoundObjective:
    """Equations 2 and 3 with bounded estimators, over the trained exits.

    Args:
        network: whose exits are trained; its heads are stochastic where `w_c` is above 0.
        weights: of the terms.
        chance: draws the noise of the codes.
        initial: draws the first weights of the probes.
        train_last: the final exit is trained too, because its backbone is.

    Notes:
        The rate applies to heads alone: the final exit's code is the backbone's own, without
        noise. On early exits the estimator "U" works against leaving early (J = +1 asks for
        confident answers); it is there to be measured.
    """

    def __init__(
        self,
        network: MultiExit,
        weights: Weights,
        *,
        chance: torch.Generator,
        initial: torch.Generator,
        train_last: bool = False,
    ) -> None:
        if len(weights.alpha) != network.num_exits:
            raise ValueError(f"expected {network.num_exits} alphas, got {len(weights.alpha)}")
        self._network, self._weights, self._chance = network, weights, chance
        self._exits = range(network.num_exits if train_last else network.num_exits - 1)
        self._running = [RunningMeans() for _ in self._exits]
        self._probes: list[LabelProbe] = []
        self._readers: list[DetailReader] = []
        pixels = thumbnail_side(network.image_shape) ** 2
        for e in self._exits:
            width = _code_width(network, e)
            if weights.estimator == "C":
                self._probes.append(LabelProbe(width, network.num_classes, generator=initial))
            if weights.x_info != "none":
                contrastive = weights.x_info == "N"
                self._readers.append(
                    DetailReader(width, pixels, contrastive=contrastive, generator=initial)
                )

    def id_loss(self, pooled: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return the in-distribution part: rate, cross-entropy, signed entropy."""
        total = pooled[0].new_zeros(())
        for e in self._exits:
            logits, _, rate = self._encode(e, pooled[e])
            total = total + F.cross_entropy(logits, labels) + self._weights.w_c * rate
            total = total + self._entropy(e, logits, ood=False)
        return total

    def ood_loss(self, pooled: Sequence[Tensor], labels: Tensor, small: Tensor) -> Tensor:
        """Return the out-of-distribution part: label and image information, signed entropy."""
        weights, total = self._weights, pooled[0].new_zeros(())
        for e in self._exits:
            logits, code, _ = self._encode(e, pooled[e])
            total = total + self._entropy(e, logits, ood=True)
            total = total + weights.w_y * self._label_information(e, logits, code, labels)
            if self._readers:
                total = total + weights.w_x * self._readers[e](code, small)
            if weights.w_s:
                total = total + weights.w_s * losses.collapse(logits.softmax(1))
        return total

    def extra_parameters(self) -> list[nn.Parameter]:
        """Return the weights of the readers of detail."""
        return [weights for reader in self._readers for weights in reader.parameters()]

    def _encode(self, e: int, pooled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, code and mean rate of one exit; the code is drawn where it has noise."""
        none = pooled.new_zeros(())
        if e == self._network.num_exits - 1:
            return self._network.answer(e, pooled), pooled, none
        head = self._network.head(e)
        if not head.stochastic:
            code = head.code_mean(pooled)
            return head.answer_code(code), code, none
        mean, log_variance = head.code(pooled)
        noise = torch.randn(mean.shape, generator=self._chance, device=mean.device)
        code = mean + (log_variance / 2).exp() * noise
        return head.answer_code(code), code, losses.gaussian_rate(mean, log_variance).mean()

    def _entropy(self, e: int, logits: Tensor, *, ood: bool) -> Tensor:
        sign = losses.entropy_sign(e, self._network.num_exits, ood=ood)
        return self._weights.alpha[e] * sign * losses.answer_entropy(logits).mean()

    def _label_information(self, e: int, logits: Tensor, code: Tensor, labels: Tensor) -> Tensor:
        estimator = self._weights.estimator
        if estimator == "C":
            self._probes[e].fit(code, labels)
            return losses.clamped_club(self._probes[e](code), labels)
        if estimator == "M":
            posteriors = logits.softmax(1)
            if self._network.num_classes < MANY_CLASSES:
                return losses.marginal_information(posteriors, labels)
            means, shares = self._running[e].update(*losses.class_means(posteriors, labels))
            return losses.information_of_means(means, shares, shares @ means)
        if estimator == "U":
            return losses.uniform_cross_entropy(logits)
        return logits.new_zeros(())


def _code_width(network: MultiExit, e: int) -> int:
    if e == network.num_exits - 1:
        classifier = network.backbone.classifier
        if not isinstance(classifier, nn.Linear):
            raise ScenarioError(
                "training the last exit needs a victim that ends in a linear layer; leave the "
                "backbone frozen"
            )
        return classifier.in_features
    return network.head(e).hidden
