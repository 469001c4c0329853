"""Gradient redirection (GRAD): answers that steer the clone in parameter space.

An attacker who climbs sum_k y'_k log p(k|x) moves along G'y'. The defence maximises <G'y', z> for
a direction z over all of a surrogate's parameters. That is linear in y', so that only
v_k = d/dt log p_{theta + t z}(k|x) at t = 0 is needed: one forward-mode pass for the whole batch.

Source:
    Mazeika, Li and Forsyth 2022, How to Steer Your Adversary, ICML, arXiv:2206.14157.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from envs.defences.base import HardenKit, Serving
from envs.defences.preserve import PosteriorDefence, Preserve
from envs.defences.simplex import redirect
from envs.defences.surrogate import Origin, Surrogate, SurrogatePlan, make_surrogate
from envs.nets.staged import Staged
from envs.victim import Victim

Direction = Literal["ones", "random", "parameters"]

_FORWARDS = 3  # outputs, and two tangents of each layer: by its weights and by its input


class GradientRedirection(PosteriorDefence):
    """Steer whoever trains on the answers towards a fixed direction, within an L1 budget.

    Args:
        epsilon: L1 budget, 0 to 2.
        direction: z. "ones" is the paper's GRAD^2, the same for every query; "random" (standard
            normal) and "parameters" (the surrogate's own) are ablations.
        surrogate: "trained", or "untrained" as an ablation.
        surrogate_data: what it learned on: "own" (the victim's training images) or a source of
            images, by default outputs of untrained image generators. The queries of a data-free
            attack are not known before the game; published tables do not say what they used.
        surrogate_epochs: epochs it trained for.
        schedule_epochs: epochs its learning rate is scheduled for.
        preserve_top1: "on", "off" (as released) or "label_only".

    Raises:
        ValueError: a value outside its range.

    Notes:
        The paper minimises with the negated target and propagates back twice; the optimum is the
        same. The direction per query (MIN-IP, minus the clean gradient) is not offered: it needs
        a pass per image and is not the method its tables favour.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.5,
        direction: Direction = "ones",
        surrogate: Origin = "trained",
        surrogate_data: str = "generator",
        surrogate_epochs: int = 10,
        schedule_epochs: int = 50,
        preserve_top1: Preserve = "on",
    ) -> None:
        super().__init__(epsilon=epsilon, preserve_top1=preserve_top1)
        self.direction = direction
        self.plan = SurrogatePlan(surrogate, surrogate_data, surrogate_epochs, schedule_epochs)
        self._surrogate: Surrogate | None = None
        self._along: dict[str, Tensor] = {}

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Train the surrogate and fix the direction."""
        self._surrogate = make_surrogate(victim, kit, self.plan)
        generator = kit.streams.torch("gradient-redirection", victim.device)
        self._along = direction_of(self._surrogate.network, self.direction, generator)
        self.overhead_macs = _FORWARDS * self._surrogate.macs
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Move mass to where the surrogate's log-probability rises fastest along z."""
        assert self._surrogate is not None, "harden comes first"
        worth = log_slopes(self._surrogate.network, self._along, serving.images)
        return redirect(clean, worth, serving.strength * self.epsilon)


def direction_of(
    network: Staged, kind: Direction, generator: torch.Generator
) -> dict[str, Tensor]:
    """Build a direction over exactly the parameters of a network, by name."""
    parameters = {name: weights.detach() for name, weights in network.named_parameters()}
    if kind == "parameters":
        return {name: weights.clone() for name, weights in parameters.items()}
    if kind == "ones":
        return {name: torch.ones_like(weights) for name, weights in parameters.items()}
    return {
        name: torch.randn(
            weights.shape, generator=generator, device=weights.device, dtype=weights.dtype
        )
        for name, weights in parameters.items()
    }


def log_slopes(network: Staged, along: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Differentiate the log-posteriors of a network along a direction of its parameters.

    Args:
        network: in evaluation mode, so that neither batch statistics nor dropout move.
        along: a tensor for each of its parameters, by name.
        images: (n, c, h, w).

    Returns:
        (n, K) float64: v_k = d/dt log p_{theta + t z}(k|x) at t = 0, for which sum_k p_k v_k = 0.
    """
    parameters = {name: weights.detach() for name, weights in network.named_parameters()}

    def logits_at(values: dict[str, Tensor]) -> Tensor:
        logits: Tensor = functional_call(network, values, (images,))
        return logits

    logits, slopes = jvp(logits_at, (parameters,), (dict(along),))
    slopes = slopes.double()
    mean = (logits.double().softmax(1) * slopes).sum(1, keepdim=True)
    return slopes - mean
