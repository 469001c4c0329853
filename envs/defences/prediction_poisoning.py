"""Prediction poisoning (P-poison, MAD): answers whose gradients point away from the true one.

An attacker who trains a clone on answer c takes the gradient G'c, where row k of G is the
gradient of -log p(k|x). The defence serves, within its budget, the answer that turns this
gradient furthest from that of the clean answer y.

G is taken from the last linear layer of a surrogate. With its softmax p and input h, row k is
(p - e_k) times h, so that G'c = (p - c) times h, h cancels, and the objective of a candidate c is
2 - 2 cos(p - c, p - y). One forward pass of the surrogate serves the whole batch; nothing is
propagated back.

Source:
    Orekondy, Schiele and Fritz 2020, Prediction Poisoning, ICLR, arXiv:1906.10908.
"""

import itertools
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from envs.defences.base import Serving
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence, Preserve
from envs.defences.needs import Need
from envs.defences.randomness import Chance
from envs.defences.randp import wrong_classes
from envs.defences.simplex import towards
from envs.defences.surrogate import Origin, Surrogate, SurrogatePlan, make_surrogate
from envs.exits.random_rules import Seeding
from envs.ranges import Count
from envs.victim.victim import Victim

Oracle = Literal["extreme", "argmax-preserving", "argmin", "random"]

_BOOST = 1e-5  # a tie-break for the label, not a margin
_ALL_SUBSETS = 10  # up to so many classes every subset is tried
_EVALUATIONS = 1024
_TINY = 1e-12


class PredictionPoisoning(PosteriorDefence):
    """Turn the gradient of whoever trains on the answers, within an L1 budget.

    An oracle picks a vertex of the simplex; what is served lies on the line from the clean
    posterior to it, as far as the budget reaches.

    Hard labels: the argmax of the point reached, always the vertex's class at epsilon 1 and above;
    with `preserve_top1` "on" or "label_only" the undefended victim's.

    Args:
        epsilon: L1 budget, 0 to 2.
        oracle: "extreme" takes the best one-hot answer. "argmax-preserving" takes the best equal
            share among a set of classes with the label: of all sets up to 10 classes, by greedy
            growth with at most 1,024 evaluations above. "argmin" (the least likely class) and
            "random" (any wrong class) are ablations.
        objmax: judge candidates by the objective; otherwise by the length of G'(c - y), which
            makes "extreme" the same as "argmin" and needs no surrogate.
        surrogate: "untrained", as published, "trained", or "small": untrained too, and no copy of
            the victim's architecture but a perceptron, so that an answer costs no second forward
            pass.
        surrogate_data: what a trained surrogate learned on, see `SurrogatePlan`.
        surrogate_epochs: epochs it trained for.
        schedule_epochs: epochs its learning rate is scheduled for.
        randomness: of the oracle "random": "fresh" or "hash".
        preserve_top1: "off" (as published), "on" or "label_only". The published variant that keeps
            labels is the oracle "argmax-preserving".

    Raises:
        ValueError: a value outside its range.

    Notes:
        A surrogate without opinion (uniform p) gives the least likely class. For confident
        answers the wrong classes nearly tie, so that small deviations of p decide: expect results
        near those of `RandP` with a class that depends on the image.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.5,
        oracle: Oracle = "extreme",
        objmax: bool = True,
        surrogate: Origin = "untrained",
        surrogate_data: str = "generator",
        surrogate_epochs: Count = 10,
        schedule_epochs: Count = 50,
        randomness: Seeding = "fresh",
        preserve_top1: Preserve = "off",
    ) -> None:
        super().__init__(epsilon=epsilon, preserve_top1=preserve_top1)
        self.oracle, self.objmax = oracle, objmax
        self.plan = SurrogatePlan(surrogate, surrogate_data, surrogate_epochs, schedule_epochs)
        self._surrogate: Surrogate | None = None
        self._chance = Chance(randomness)

    @property
    def trained_on(self) -> tuple[str, ...]:
        """What a trained surrogate was distilled on, if not on the victim's own images."""
        return self.plan.trained_on if self._asks_surrogate else ()

    @property
    def _asks_surrogate(self) -> bool:
        return self.objmax and self.oracle in ("extreme", "argmax-preserving")

    @property
    def needs(self) -> frozenset[Need]:
        """What its surrogate needs, where it asks one."""
        return self.plan.needs if self._asks_surrogate else frozenset()

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Draw or train the surrogate, where the oracle asks one."""
        self._chance.take_key(kit, "prediction-poisoning")
        if self._asks_surrogate:
            self._surrogate = make_surrogate(victim, kit, self.plan)
            self.overhead_macs = self._surrogate.macs
        return victim

    def perturb(self, clean: Tensor, serving: Serving) -> Tensor:
        """Go towards the oracle's vertex."""
        return towards(clean, self._vertex(clean, serving), serving.strength * self.epsilon)

    def _vertex(self, clean: Tensor, serving: Serving) -> Tensor:
        if self.oracle == "random":
            chance = self._chance.uniforms(serving.images, 1, serving.generator)
            return _one_hot(clean, wrong_classes(clean, chance))
        if self.oracle == "argmin":
            return _one_hot(clean, clean.argmin(1, keepdim=True))
        believed = None
        if self._surrogate is not None:
            believed = self._surrogate.posteriors(serving.images)
        if self.oracle == "extreme":
            return _one_hot(clean, extreme_class(clean, believed))
        return best_subset(clean, believed)


def extreme_class(clean: Tensor, believed: Tensor | None) -> Tensor:
    """Find the class whose one-hot answer turns the gradient most.

    Args:
        clean: (n, K) float64, y.
        believed: (n, K) float64, the surrogate's softmax p; without it candidates are judged by
            length, which gives the least likely class.

    Returns:
        (n, 1) int64. Where p = y no direction is left to turn, and it is the least likely class.
    """
    least = clean.argmin(1, keepdim=True)
    if believed is None:
        return least
    away = clean - believed
    squares = believed.square().sum(1, keepdim=True)
    dots = away - (believed * away).sum(1, keepdim=True)  # p.p - p.y - p_k + y_k
    lengths = (squares + 1 - 2 * believed).clamp_min_(0).sqrt_()
    # the length of p - y is the same for every class and changes no order
    cosine = dots.div_(lengths.clamp_min_(_TINY))
    aimless = away.abs_().amax(1, keepdim=True) < _TINY
    return torch.where(aimless, least, cosine.argmin(1, keepdim=True))


def best_subset(clean: Tensor, believed: Tensor | None) -> Tensor:
    """Find the best equal share among a set of classes that holds the label.

    Args:
        clean: (n, K) float64, y.
        believed: (n, K) float64, p; without it candidates are judged by length.

    Returns:
        (n, K) vertices; the label's entry is the largest of each.
    """
    label = clean.argmax(1, keepdim=True)
    if clean.shape[1] <= _ALL_SUBSETS:
        return _of_all_subsets(clean, believed, label)
    return _grown_subset(clean, believed, label)


def _of_all_subsets(clean: Tensor, believed: Tensor | None, label: Tensor) -> Tensor:
    """Try all 2^(K-1) sets at once, with the label moved to the first column."""
    others = torch.arange(clean.shape[1] - 1, device=clean.device)
    order = torch.cat((label, others + (others >= label)), 1)  # (n, K)
    candidates = _subsets(clean.shape[1]).to(clean.device)  # (2^(K-1), K)
    y = clean.gather(1, order)
    p = None if believed is None else believed.gather(1, order)
    dots = None if p is None else p @ candidates.T
    scores = _score(
        y, p, on_y=y @ candidates.T, on_p=dots, squares=candidates.square().sum(1).unsqueeze(0)
    )
    chosen = candidates[scores.argmax(1)]
    return torch.zeros_like(clean).scatter(1, order, chosen)


def _grown_subset(clean: Tensor, believed: Tensor | None, label: Tensor) -> Tensor:
    """Add the best class to the set, again and again, and keep the best set on the way."""
    classes = clean.shape[1]
    member = torch.zeros_like(clean, dtype=torch.bool).scatter(1, label, True)
    alone = _shares(member, label)
    best_score = _score(
        clean,
        believed,
        on_y=(alone * clean).sum(1, keepdim=True),
        on_p=None if believed is None else (alone * believed).sum(1, keepdim=True),
        squares=alone.square().sum(1, keepdim=True),
    )
    best = member
    spent, size = 0, 1
    while size < classes and spent + classes - size <= _EVALUATIONS:
        total = size + 1 + _BOOST
        weight = _boosted(member, label)
        squares = torch.full_like(clean, size + (1 + _BOOST) ** 2) / total**2
        scores = _score(
            clean,
            believed,
            on_y=((weight * clean).sum(1, keepdim=True) + clean) / total,
            on_p=None
            if believed is None
            else ((weight * believed).sum(1, keepdim=True) + believed) / total,
            squares=squares,
        ).masked_fill(member, -torch.inf)
        score, added = scores.max(1, keepdim=True)
        member = member.scatter(1, added, True)
        better = score > best_score
        best = torch.where(better, member, best)
        best_score = torch.maximum(score, best_score)
        spent, size = spent + classes - size, size + 1
    return _shares(best, label)


def _score(
    y: Tensor, p: Tensor | None, *, on_y: Tensor, on_p: Tensor | None, squares: Tensor
) -> Tensor:
    """Judge candidates c by (n, m) products c.y, c.p and c.c; larger is better.

    Returns:
        (n, m): minus cos(p - c, p - y), or |c - y|^2 without a surrogate and where p = y.
    """
    length = squares - 2 * on_y + y.square().sum(1, keepdim=True)
    if p is None or on_p is None:
        return length
    own = p.square().sum(1, keepdim=True)
    dots = own - (p * y).sum(1, keepdim=True) - on_p + on_y
    sizes = (own - 2 * on_p + squares).clamp_min(0).sqrt()
    base = (p - y).norm(dim=1, keepdim=True)
    cosine = dots / (sizes * base).clamp_min(_TINY)
    return torch.where(base < _TINY, length, -cosine)


@lru_cache(maxsize=8)
def _subsets(classes: int) -> Tensor:
    """Return all equal shares that hold class 0, (2^(K-1), K) float64."""
    rest = torch.tensor(list(itertools.product((False, True), repeat=classes - 1)))
    member = torch.cat((torch.ones(len(rest), 1, dtype=torch.bool), rest), 1)
    return _shares(member, torch.zeros(len(rest), 1, dtype=torch.int64))


def _shares(member: Tensor, label: Tensor) -> Tensor:
    """Turn (n, K) sets into equal shares, the label's a little larger."""
    weight = _boosted(member, label)
    return weight / weight.sum(1, keepdim=True)


def _boosted(member: Tensor, label: Tensor) -> Tensor:
    weight = member.double()
    return weight.scatter_add(1, label, torch.full_like(weight[:, :1], _BOOST))


def _one_hot(clean: Tensor, classes: Tensor) -> Tensor:
    return torch.zeros_like(clean).scatter(1, classes, 1.0)
