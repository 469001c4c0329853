"""ModelGuard: answers that tell an attacker who restores them as little as possible.

Two defences. The weak one (W) serves, within the budget, the answer least likely to be guessed
from the clean one: a linear programme. The strong one (S) serves one of few prototypes, so that
what was rounded away cannot be restored.

Source:
    Tang et al. 2024, ModelGuard: Information-Theoretic Defense Against Model Extraction Attacks,
    USENIX Security.
"""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from envs.defences.base import Serving
from envs.defences.codebook import Codebook
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import MARGIN, PosteriorDefence, Preserve
from envs.defences.simplex import drained, normalised, redirect
from envs.defences.surrogate import victim_answers
from envs.victim.victim import Victim

_LEAST = 1e-12  # posteriors below count as this in logarithms
_GOLDEN = (math.sqrt(5) - 1) / 2
_STEPS = 58  # 0.618**58 is below 1e-12


class ModelGuardW(PosteriorDefence):
    """Minimise sum_k y'_k log y_k within an L1 budget, keeping the label.

    Hard labels: the undefended victim's, unless `preserve_top1` is "off"; then the least likely
    class wherever the budget makes it the largest.

    Args:
        epsilon: L1 budget, 0 to 2.
        preserve_top1: "on" makes a lead of the label of 1e-4 a constraint of the programme; a
            posterior that does not have that lead itself is served as it is. "off" and
            "label_only" leave the constraint out.

    Raises:
        ValueError: a value outside its range.

    Notes:
        Solved exactly and for the whole batch: with the label's probability fixed the rest is
        greedy, and the optimum is convex in that probability.
    """

    def __init__(self, *, epsilon: float = 1.0, preserve_top1: Preserve = "on") -> None:
        super().__init__(epsilon=epsilon, preserve_top1=preserve_top1)

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Solve the programme."""
        budget = serving.strength * self.epsilon
        if self.preserve_top1 == "on":
            return least_expected(clean, budget)
        return redirect(clean, -costs(clean), budget)


def costs(clean: Tensor) -> Tensor:
    """Return log y, with entries below 1e-12 counted as 1e-12."""
    return clean.clamp_min(_LEAST).log()


def least_expected(clean: Tensor, epsilon: float, margin: float = MARGIN) -> Tensor:
    """Minimise sum_k x_k log y_k over answers that keep the label.

    Args:
        clean: (n, K) float64 on the simplex, y.
        epsilon: L1 budget, 0 to 2.
        margin: lead that the label keeps over every other class.

    Returns:
        (n, K) x on the simplex, with L1 distance at most epsilon from y and x_label at least
        x_k + margin; y itself where y has not that lead.
    """
    order = clean.argsort(dim=1, descending=True, stable=True)  # the label comes first
    label, others = clean.gather(1, order).split([1, clean.shape[1] - 1], dim=1)
    others = others.flip(1)  # cheapest first
    low, high = _label_range(label, others, epsilon, margin)

    def cost(level: Tensor) -> Tensor:
        rest = _rest(level, label, others, epsilon=epsilon, margin=margin)
        return level * costs(label) + (rest * costs(others)).sum(1, keepdim=True)

    level = minimum(cost, torch.minimum(low, label), high)
    rest = _rest(level, label, others, epsilon=epsilon, margin=margin)
    served = torch.cat((level, rest.flip(1)), 1)
    served = torch.zeros_like(clean).scatter(1, order, served)
    near_tie = (label - others[:, -1:]) < margin
    return torch.where(near_tie, clean, served)


def minimum(cost: Callable[[Tensor], Tensor], low: Tensor, high: Tensor) -> Tensor:
    """Find where a convex function has its minimum between bounds, by golden section.

    Args:
        cost: maps (n, 1) to (n, 1), row by row.
        low: (n, 1).
        high: (n, 1), at least `low`.

    Returns:
        (n, 1), within 1e-12 of the minimum, relative to the distance of the bounds.
    """
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = cost(left), cost(right)
    for _ in range(_STEPS):
        falls = at_left > at_right  # so the minimum is right of `left`
        low, high = torch.where(falls, left, low), torch.where(falls, high, right)
        kept, at_kept = torch.where(falls, right, left), torch.where(falls, at_right, at_left)
        step = _GOLDEN * (high - low)
        new = torch.where(falls, low + step, high - step)
        at_new = cost(new)
        left, at_left = torch.where(falls, kept, new), torch.where(falls, at_kept, at_new)
        right, at_right = torch.where(falls, new, kept), torch.where(falls, at_new, at_kept)
    return (low + high) / 2


def _label_range(
    label: Tensor, others: Tensor, epsilon: float, margin: float
) -> tuple[Tensor, Tensor]:
    """Bound the label's probability t, as two (n, 1) tensors.

    Below, the budget binds: what the label gives and what the others above the cap t - margin
    must give is at most epsilon / 2. That sum is the largest of the lines one gets by capping the
    j largest others, so its root is the largest of their roots. And all classes must fit.
    """
    classes = others.shape[1] + 1
    falling = others.flip(1)
    held = torch.cat((torch.zeros_like(label), falling.cumsum(1)), 1)  # (n, K), j = 0 .. K - 1
    counts = torch.arange(classes, device=label.device, dtype=label.dtype)
    roots = (label + held + counts * margin - epsilon / 2) / (counts + 1)
    low = roots.amax(1, keepdim=True).clamp_min((1 + (classes - 1) * margin) / classes)
    return low, (label + epsilon / 2).clamp_max(1)


def _rest(level: Tensor, label: Tensor, others: Tensor, *, epsilon: float, margin: float) -> Tensor:
    """Spread what the label leaves over the other classes, as cheaply as the budget allows.

    Mass goes from the dearest classes to the cheapest, each up to the cap. Classes above the cap
    must give; further moves pay until the polarised spread (cheap classes full, dear ones empty)
    is reached.

    Args:
        level: (n, 1), the label's probability.
        label: (n, 1), its clean probability.
        others: (n, K - 1), clean, ascending and so cheapest first.
        epsilon: L1 budget.
        margin: lead of the label.
    """
    cap = (level - margin).clamp_min(0)
    base = torch.minimum(others, cap)
    forced = (others - base).sum(1, keepdim=True)
    received = label - level  # by all others together; negative where they give to the label
    polarised = drained(cap.expand_as(others), 1 - level)
    useful = (base - polarised).clamp_min(0).sum(1, keepdim=True)
    allowed = epsilon / 2 - received.clamp_min(0) - forced
    further = torch.minimum(useful, allowed.clamp_min(0))
    # with no mass to receive the others give at least what the label takes
    further = torch.maximum(further, (-received - forced).clamp_min(0))
    taken = drained(base.flip(1), further).flip(1)
    gained = drained(cap - base, (forced + further + received).clamp_min(0))
    return base - taken + gained


class ModelGuardS(PosteriorDefence):
    """Serve a prototype near the answer instead of the answer.

    Each class has a list of prototypes, made before the game by clustering the victim's answers
    to its own data until every answer has one within the budget. An answer is replaced by the
    first prototype of its class that is near enough. Where there is none it is served itself and
    becomes the last prototype of the list.

    Hard labels: the undefended victim's, whatever `preserve_top1` says, but for a prototype whose
    label leads by less than float32 tells apart.

    Args:
        epsilon: L1 budget: the radius of a cluster.
        grow: whether answers become prototypes during the game; without it, an answer far from
            all prototypes is moved towards the nearest as far as the budget reaches.
        preserve_top1: "on", "off" or "label_only". Prototypes are means of answers with one label
            and have it too, so that little depends on it.

    Raises:
        ValueError: a value outside its range.

    Notes:
        Prototypes are grouped by the victim's label, not the true one, so that they keep it.
        Growing the list waits for the device once a request.
    """

    margin: ClassVar[float] = 0.0
    """A prototype's own label leads; with a margin something between would be served."""

    def __init__(
        self, *, epsilon: float = 1.0, grow: bool = True, preserve_top1: Preserve = "on"
    ) -> None:
        super().__init__(epsilon=epsilon, preserve_top1=preserve_top1)
        self.grow = grow
        self._codebook: Codebook | None = None

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Cluster the victim's answers to its own training images."""
        pixels = kit.data.train.to(victim.device).pixels
        answers = normalised(victim_answers(victim, pixels))
        self._codebook = Codebook.fitted(answers, self.epsilon)
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Look the prototypes up."""
        assert self._codebook is not None, "harden comes first"
        return self._codebook.quantise(clean, serving.strength * self.epsilon, grow=self.grow)
