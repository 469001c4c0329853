"""Arithmetic on the simplex: what every defence that changes posteriors needs, in float64."""

import torch
from torch import Tensor

_LOGIT_CLAMP = 1e-7


def normalised(posteriors: Tensor) -> Tensor:
    """Return (n, K) float32 posteriors in float64, with rows that sum to 1."""
    wide = posteriors.double()
    return wide / wide.sum(1, keepdim=True)


def logit(posteriors: Tensor) -> Tensor:
    """Return log(y / (1 - y)) of each entry, clamped to [1e-7, 1 - 1e-7]."""
    return torch.logit(posteriors, eps=_LOGIT_CLAMP)


def distance(left: Tensor, right: Tensor) -> Tensor:
    """Measure the L1 distance of the rows of two (n, K) tensors, as (n,) in 0 to 2."""
    return (left - right).abs_().sum(1)


def onto_simplex(rows: Tensor, otherwise: Tensor) -> Tensor:
    """Set what is negative to 0 and let every row sum to 1.

    Args:
        rows: (n, K) float64.
        otherwise: (n, K), what stands for a row in which nothing is left.
    """
    kept = rows.clamp_min(0)
    total = kept.sum(1, keepdim=True)
    empty = total <= 0
    return torch.where(empty, otherwise, kept / total.masked_fill(empty, 1.0))


def within_budget(served: Tensor, clean: Tensor, epsilon: float) -> Tensor:
    """Pull rows towards the clean ones until none is further than `epsilon` from them in L1."""
    factor = (epsilon / distance(served, clean).clamp_min_(1e-300)).clamp_max_(1)
    return torch.lerp(clean, served, factor.unsqueeze(1))  # to the bit `served` at a factor of 1


def towards(clean: Tensor, vertex: Tensor, epsilon: float) -> Tensor:
    """Go from the clean posteriors straight towards other ones, as far as the budget reaches.

    Args:
        clean: (n, K) on the simplex.
        vertex: (n, K) on the simplex.
        epsilon: L1 budget; it is spent in full unless the vertex is nearer.
    """
    share = (epsilon / distance(vertex, clean).clamp_min(1e-300)).clamp_max(1)
    return clean + share.unsqueeze(1) * (vertex - clean)


def redirect(clean: Tensor, worth: Tensor, epsilon: float) -> Tensor:
    """Maximise the mean worth of a row within an L1 budget: the exact linear programme.

    The class worth most receives, the classes worth least give, in that order.

    Args:
        clean: (n, K) float64 on the simplex.
        worth: (n, K) float64, what probability is worth at each class.
        epsilon: L1 budget, 0 to 2.

    Returns:
        (n, K) argmax of sum_k worth_k x_k over the simplex with L1 distance at most epsilon.
    """
    receiver = worth.argmax(1, keepdim=True)
    amount = (1 - clean.gather(1, receiver)).clamp_max(epsilon / 2)
    purse = clean.scatter(1, receiver, 0.0)  # the receiver gives nothing
    order = worth.argsort(1)
    given = drained(purse.gather(1, order), amount)
    moved = torch.zeros_like(clean).scatter(1, order, given)
    return (clean - moved).scatter_add(1, receiver, given.sum(1, keepdim=True))


def drained(purses: Tensor, amount: Tensor) -> Tensor:
    """Take an amount from purses in their order, each emptied before the next is opened.

    Args:
        purses: (n, m), at least 0.
        amount: (n, 1).

    Returns:
        (n, m), what each gives.
    """
    before = purses.cumsum(1) - purses
    return torch.minimum((amount - before).clamp_min(0), purses)
