"""Reverse sigmoid: a deterministic wave on the answers."""

import torch
from torch import Tensor

from envs.defences.base import Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence, Preserve
from envs.defences.simplex import logit
from envs.ranges import Positive
from envs.victim.victim import Victim


class ReverseSigmoid(PosteriorDefence):
    """Serve y - beta (sigmoid(gamma logit(y)) - 1/2), cut at 0 and normalised.

    Deterministic and nearly invertible, hence weak against an attacker who restores answers.

    Hard labels: the undefended victim's, unless beta is so large that the order of the classes
    changes; with `preserve_top1` "on" or "label_only" always.

    Args:
        beta: height of the wave, 0 to 2; 0 is the identity.
        gamma: its steepness, above 0.
        preserve_top1: "off" (as published), "on" or "label_only".

    Raises:
        ValueError: a value outside its range.

    Source:
        Lee et al. 2019, Defending against neural network model stealing attacks using deceptive
        perturbations, IEEE S&P Workshops. The defaults are those of ModelGuard's study of
        CIFAR-10 (Tang et al. 2024, USENIX Security).
    """

    answers_only = True

    def __init__(
        self, *, beta: float = 0.21, gamma: Positive = 0.2, preserve_top1: Preserve = "off"
    ) -> None:
        if not 0 <= beta <= 2:
            raise ValueError(f"expected beta from 0 to 2, got {beta}")
        if gamma <= 0:
            raise ValueError(f"expected gamma above 0, got {gamma}")
        super().__init__(epsilon=2.0, preserve_top1=preserve_top1)
        self.beta, self.gamma = beta, gamma

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Learn the number of classes, which bounds the distance.

        Each entry moves by at most beta / 2; normalising moves a row by at most as much again.
        """
        self.epsilon = min(2.0, victim.num_classes * self.beta)
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Return the answers with the wave taken off, not yet normalised."""
        wave = torch.sigmoid(self.gamma * logit(clean)) - 0.5
        return clean - serving.strength * self.beta * wave
