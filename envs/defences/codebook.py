"""Prototypes of answers, in lists by label, that grow where an answer is near none of them."""

import torch
from torch import Tensor

from envs.defences.simplex import towards

_ROUNDS = 100
_STILL = 1e-3  # largest move of a centre, L2, at which clustering ends
_AT_ONCE = 4096


class Codebook:
    """Lists of prototypes, one for each class.

    Args:
        prototypes: for each of K classes (m, K) float64 on the simplex, m at least 0.
    """

    def __init__(self, prototypes: list[Tensor]) -> None:
        self._lists = prototypes

    @classmethod
    def fitted(cls, answers: Tensor, radius: float) -> "Codebook":
        """Cluster (n, K) answers by label until each is within L1 `radius` of a centre."""
        labels = answers.argmax(1)
        return cls([cluster(answers[labels == k], radius) for k in range(answers.shape[1])])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Prototypes by class."""
        return tuple(len(prototypes) for prototypes in self._lists)

    def quantise(self, answers: Tensor, radius: float, *, grow: bool) -> Tensor:
        """Replace each answer by the first prototype of its label within the radius.

        Answers are taken in their order: how they are split into requests does not matter.

        Args:
            answers: (n, K) float64 on the simplex.
            radius: L1.
            grow: let an answer that has no such prototype become one; otherwise it is moved
                towards the nearest of its label's, as far as the radius reaches.

        Returns:
            (n, K) on the simplex, each within the radius of its answer.
        """
        served = answers.clone()
        labels = answers.argmax(1)
        for k in labels.unique().tolist():
            rows = (labels == k).nonzero().squeeze(1)
            served[rows] = self._quantise_class(k, answers[rows], radius, grow=grow)
        return served

    def _quantise_class(self, k: int, answers: Tensor, radius: float, *, grow: bool) -> Tensor:
        prototypes = self._lists[k]
        if grow:
            prototypes = self._lists[k] = grown(prototypes, answers, radius)
        elif len(prototypes) == 0:
            return answers
        apart = distances(answers, prototypes)
        near = apart <= radius
        first = prototypes[near.int().argmax(1)]  # the lowest index of those that are near
        if grow:
            return first
        nearest = towards(answers, prototypes[apart.argmin(1)], radius)
        return torch.where(near.any(1, keepdim=True), first, nearest)


def grown(prototypes: Tensor, answers: Tensor, radius: float) -> Tensor:
    """Append, in their order, the answers that are near no prototype and no answer appended before.

    Args:
        prototypes: (m, K).
        answers: (n, K).
        radius: L1.

    Returns:
        (m + new, K); every answer is within the radius of a row.
    """
    far = (
        ~(distances(answers, prototypes) <= radius).any(1)
        if len(prototypes)
        else torch.ones(len(answers), dtype=torch.bool, device=answers.device)
    )
    waiting = answers[far]
    while len(waiting):
        leader = waiting[:1]
        prototypes = torch.cat((prototypes, leader))
        waiting = waiting[distances(waiting, leader).squeeze(1) > radius]
    return prototypes


def cluster(answers: Tensor, radius: float) -> Tensor:
    """Find centres by k-means, one more at a time, until each answer is within the radius of one.

    A new centre starts at the answer that is furthest from all.

    Args:
        answers: (n, K) of one label; n may be 0.
        radius: L1.

    Returns:
        (m, K) means of clusters.
    """
    if len(answers) == 0:
        return answers
    centres = answers.mean(0, keepdim=True)
    # as many centres as answers reach every radius; further than that rounding alone leads
    for _ in range(len(answers)):
        centres = _k_means(answers, centres)
        apart = distances(answers, centres).amin(1)
        furthest = apart.argmax()
        if apart[furthest] <= radius:
            break
        centres = torch.cat((centres, answers[furthest].unsqueeze(0)))
    return centres


def _k_means(answers: Tensor, centres: Tensor) -> Tensor:
    """Move centres to the means of their clusters until they stand still; drop empty ones."""
    for _ in range(_ROUNDS):
        nearest = distances(answers, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, answers)
        sizes = torch.bincount(nearest, minlength=len(centres)).unsqueeze(1)
        moved = torch.where(sizes > 0, sums / sizes.clamp_min(1), centres)
        step = (moved - centres).norm(dim=1).max()
        if step < _STILL:
            break
        centres = moved
    filled = distances(answers, centres).argmin(1).unique()
    return centres[filled]


def distances(answers: Tensor, prototypes: Tensor) -> Tensor:
    """Measure all L1 distances, (n, m), of (n, K) and (m, K) rows, in blocks of bounded memory."""
    parts = [torch.cdist(part, prototypes, p=1) for part in answers.split(_AT_ONCE)]
    return torch.cat(parts)
