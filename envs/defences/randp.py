"""Random perturbation, RandP: two baselines carry the name.

Which of them published tables use, and at which strength, is not published.
"""

from typing import Literal

import torch
from torch import Tensor

from envs.defences.base import Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence, Preserve
from envs.defences.randomness import Chance, to_normal
from envs.defences.simplex import logit
from envs.exits.random_rules import Seeding
from envs.ranges import Amount
from envs.victim.victim import Victim


class RandP(PosteriorDefence):
    """Mix each answer with a random wrong class, or add noise to its logits.

    "target" serves (1 - epsilon/2) y + (epsilon/2) e_t with t uniform over the classes other than
    the most likely one; its L1 distance is epsilon (1 - y_t). "noise" serves
    sigmoid(logit(y) + delta), normalised, with delta in an L_p ball.

    Hard labels: the argmax of what was drawn, which may differ from query to query; with
    `preserve_top1` "on" or "label_only" the undefended victim's.

    Args:
        variant: "target" or "noise".
        epsilon: L1 budget of "target", 0 to 2; 0.5 if not given.
        radius: of the ball of "noise", in logits; 1 if not given. It does not bound the L1
            distance of the answers, so only measured distances compare with other defences.
        norm: p of the ball of "noise", 1 or 2.
        noise: "uniform" in [0, 2 radius / K^(1/p)], or standard "normal".
        randomness: "fresh" or "hash".
        preserve_top1: "off" (as published), "on" or "label_only".

    Raises:
        ValueError: a value outside its range, or one of the other variant's.

    Notes:
        Without `preserve_top1` a label flips under "target" where it leads the drawn class by
        less than epsilon / (2 - epsilon): always at epsilon = 1.

    Source:
        "target": the random baseline of Mazeika et al. 2022, ICML. "noise": the baseline of
        Orekondy et al. 2020, arXiv:1906.10908.
    """

    answers_only = True

    def __init__(
        self,
        *,
        variant: Literal["target", "noise"] = "target",
        epsilon: float | None = None,
        radius: Amount | None = None,
        norm: Literal[1, 2] = 2,
        noise: Literal["uniform", "normal"] = "uniform",
        randomness: Seeding = "fresh",
        preserve_top1: Preserve = "off",
    ) -> None:
        if variant == "target" and radius is not None:
            raise ValueError("radius belongs to variant 'noise'; 'target' takes epsilon")
        if variant == "noise" and epsilon is not None:
            raise ValueError("epsilon belongs to variant 'target'; 'noise' takes radius")
        self.variant, self.norm, self.noise = variant, norm, noise
        self.radius = 1.0 if radius is None else radius
        if self.radius < 0:
            raise ValueError(f"expected a radius of at least 0, got {radius}")
        budget = 0.5 if epsilon is None else epsilon
        super().__init__(epsilon=2.0 if variant == "noise" else budget, preserve_top1=preserve_top1)
        self._chance = Chance(randomness)

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Take the secret of "hash"."""
        self._chance.take_key(kit, "randp")
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Return the mixture or the noisy answer."""
        count = 1 if self.variant == "target" else clean.shape[1]
        uniforms = self._chance.uniforms(serving.images, count, serving.generator)
        if self.variant == "target":
            targets = wrong_classes(clean, uniforms)
            return mix(clean, targets, serving.strength * self.epsilon)
        radius = serving.strength * self.radius
        if self.noise == "normal":
            shift = to_normal(uniforms)
        else:
            shift = uniforms * (2 * radius / clean.shape[1] ** (1 / self.norm))
        return add_to_logits(clean, onto_ball(shift, radius, self.norm))


def wrong_classes(clean: Tensor, uniforms: Tensor) -> Tensor:
    """Choose a class other than the most likely one.

    Args:
        clean: (n, K), K at least 2.
        uniforms: (n, 1) in [0, 1).

    Returns:
        (n, 1) int64, uniform over the K - 1 others.
    """
    others = clean.shape[1] - 1
    rank = (uniforms * others).long().clamp_max(others - 1)
    return rank + (rank >= clean.argmax(1, keepdim=True))


def mix(clean: Tensor, targets: Tensor, epsilon: float) -> Tensor:
    """Mix (n, K) posteriors with the one-hot of (n, 1) classes, with weight epsilon / 2."""
    share = torch.full(targets.shape, epsilon / 2, dtype=clean.dtype, device=clean.device)
    return ((1 - epsilon / 2) * clean).scatter_add_(1, targets, share)


def add_to_logits(clean: Tensor, shift: Tensor) -> Tensor:
    """Return sigmoid(logit(y) + shift), not normalised."""
    noisy: Tensor = torch.sigmoid(logit(clean) + shift)
    return noisy


def onto_ball(rows: Tensor, radius: float, norm: Literal[1, 2]) -> Tensor:
    """Project (n, K) rows onto the L1 or L2 ball of a radius around 0, to the nearest point.

    Source:
        The L1 ball: Duchi et al. 2008, Efficient projections onto the l1-ball, figure 1.
    """
    if norm == 2:
        length = rows.norm(dim=1, keepdim=True).clamp_min(1e-300)
        shrink: Tensor = (radius / length).clamp_max(1)
        return rows * shrink
    sizes = rows.abs()
    falling = sizes.sort(1, descending=True).values
    excess = falling.cumsum(1) - radius
    ranks = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    last = (falling * ranks > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = (excess.gather(1, last - 1) / last).clamp_min(0)
    return rows.sign() * (sizes - threshold).clamp_min(0)
