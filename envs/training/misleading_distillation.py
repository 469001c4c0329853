"""Distils a victim into a network that is hard to copy: it drives a copy's answers away.

Source:
    Cheng et al. 2025, MISLEADER, arXiv:2506.02362, and its released code.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.training.loop import cross_entropy
from envs.training.optimisers import RateSchedule, make_optimiser
from envs.training.recipes import Recipe

Images = Callable[[int], Tensor]
"""Draws so many images that a copy is trained on, (n, c, h, w) float32 in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Distillation:
    """What one network is distilled towards.

    Args:
        misleading: lambda, weight of the copy's distance; 0 distils and no more.
        temperature: T of the distillation.
        share: alpha, the teacher's share; the labels have the rest.
    """

    misleading: float
    temperature: float
    share: float


def divergence(logits: Tensor, copied: Tensor) -> Tensor:
    """Measure KL(softmax(logits) || softmax(copied)), the mean over (n, K) rows, in nats."""
    aimed, reached = logits.float().softmax(1), copied.float().log_softmax(1)
    return F.kl_div(reached, aimed, reduction="batchmean")


def distillation(
    logits: Tensor, teacher: Tensor, labels: Tensor, *, temperature: float, share: float
) -> Tensor:
    """Measure share T^2 KL(teacher at T || network at T) + (1 - share) cross-entropy.

    Args:
        logits: (n, K) of the network.
        teacher: (n, K) logits of the teacher.
        labels: (n,) int64.
        temperature: T.
        share: of the teacher.
    """
    soft = divergence(teacher / temperature, logits / temperature)
    return share * temperature**2 * soft + (1 - share) * cross_entropy(logits, labels)


class MisleadingLoss:
    """Distillation minus the distance of a copy, which is trained along.

    At each step the copy first moves towards the network's answers to images of its own, and then
    the network is told how far the copy still is; the copy stands still there.

    Args:
        terms: of the loss.
        teacher: maps images to (n, K) logits.
        copy: the inner attacker, with starting weights; trained in place.
        draw: the copy's images.
        recipe: of the copy's training.
        steps: of the whole training, that the copy's rate is scheduled for.
        updates: of the copy at each step.
    """

    def __init__(
        self,
        terms: Distillation,
        *,
        teacher: Callable[[Tensor], Tensor],
        copy: nn.Module,
        draw: Images,
        recipe: Recipe,
        steps: int,
        updates: int,
    ) -> None:
        self._terms, self._teacher, self._copy, self._draw = terms, teacher, copy.train(), draw
        self._optimiser = make_optimiser(copy.parameters(), recipe)
        self._schedule = RateSchedule(self._optimiser, recipe, steps)
        self._clip, self._updates = recipe.clip_norm, updates

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of a batch."""
        terms = self._terms
        with torch.no_grad():
            taught = self._teacher(images)
        loss = distillation(
            network(images), taught, labels, temperature=terms.temperature, share=terms.share
        )
        if terms.misleading == 0:
            return loss
        asked = self._draw(len(images))
        with statistics_kept(network):
            answers = network(asked)
        for _ in range(self._updates):
            self._follow(asked, answers.detach())
        self._schedule.step()
        with torch.no_grad():
            copied = self._copy(asked)
        return loss - terms.misleading * divergence(answers, copied)

    def _follow(self, asked: Tensor, answers: Tensor) -> None:
        """Let the copy learn answers to what it asked."""
        self._optimiser.zero_grad(set_to_none=True)
        divergence(answers, self._copy(asked)).backward()
        if self._clip > 0:
            nn.utils.clip_grad_norm_(self._copy.parameters(), self._clip)
        self._optimiser.step()


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Normalise by a batch's own statistics, and keep nothing of them for serving."""
    norms = [
        part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
