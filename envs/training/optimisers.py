"""Optimisers and learning rates of a training recipe."""

from collections.abc import Iterable

import torch
from torch import nn

from envs.training.recipes import Recipe


def make_optimiser(params: Iterable[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    """Build the optimiser of a recipe over some parameters."""
    if recipe.optimiser == "adam":
        return torch.optim.Adam(
            params,
            lr=recipe.learning_rate,
            betas=(recipe.momentum, 0.999),
            weight_decay=recipe.weight_decay,
        )
    return torch.optim.SGD(
        params,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov and recipe.momentum > 0,
        weight_decay=recipe.weight_decay,
    )


class RateSchedule:
    """Sets the learning rate of every step; the rate of the first step is set at once.

    torch's own schedulers warn where a loss scaler leaves out the first step, and take longer
    than a step of the smallest networks.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, recipe: Recipe, steps: int) -> None:
        self._optimiser, self._recipe, self._steps = optimiser, recipe, steps
        self._peaks = [group["lr"] for group in optimiser.param_groups]
        self._taken = 0
        self._apply()

    def step(self) -> None:
        """Go on to the next step's rate."""
        self._taken += 1
        self._apply()

    def _apply(self) -> None:
        factor = self._recipe.rate_factor(min(self._taken, self._steps), max(self._steps, 1))
        for group, peak in zip(self._optimiser.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
