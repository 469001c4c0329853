"""Which images of a pool are worth asking next, judged by a clone."""

import torch
from torch import Tensor, nn

from envs.data.images import bytes_to_unit
from envs.training.evaluation import flags_restored

_TINY = 1e-12
_AT_ONCE = 256  # images or centres looked at in one piece


def entropies(posteriors: Tensor) -> Tensor:
    """Measure the (n,) entropies in nats of (n, K) posteriors."""
    return -(posteriors * posteriors.clamp_min(_TINY).log()).sum(1)


def farthest_first(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """Choose points far from all centres and from each other: greedy k-center.

    Args:
        points: (n, d) to choose from.
        centres: (m, d) that are taken already, m at least 1.
        count: how many to choose, at most n.

    Returns:
        (count,) int64 places in `points`, in the order chosen; none occurs twice.

    Source:
        Sener and Savarese 2018, arXiv:1708.00489, as used by ActiveThief.
    """
    distances = [torch.cdist(points, part).amin(1) for part in centres.split(_AT_ONCE)]
    nearest = torch.stack(distances).amin(0)
    chosen = []
    for _ in range(count):
        best = nearest.argmax()
        chosen.append(best)
        nearest = torch.minimum(nearest, (points - points[best]).norm(dim=1))
        nearest[best] = -1.0  # below every distance, so that a double of it is not it again
    return torch.stack(chosen) if chosen else torch.empty(0, dtype=torch.int64)


def boundary_distances(
    clone: nn.Module,
    images: Tensor,
    *,
    steps: int = 20,
    overshoot: float = 0.01,
    classes: int = 10,
) -> Tensor:
    """Measure how far images are from the nearest other class of a clone, by DeepFool.

    Args:
        clone: maps (n, c, h, w) in [0, 1] to logits, on the images' device.
        images: (n, c, h, w) uint8, or float32 in [0, 1].
        steps: at most; an image that has crossed stops.
        overshoot: share by which each step is lengthened, so that it crosses.
        classes: likeliest classes that are tried.

    Returns:
        (n,) squared Euclidean distances of the images from where they were moved to.

    Source:
        Moosavi-Dezfooli et al. 2016 (DeepFool), arXiv:1511.04599; as a criterion Ducoffe and
        Precioso 2018 (DFAL), arXiv:1802.09841.
    """
    with flags_restored(clone):
        clone.eval()
        moved = [
            _crossing(clone, bytes_to_unit(part), steps, 1 + overshoot, classes)
            for part in images.split(_AT_ONCE)
        ]
    return (torch.cat(moved) - bytes_to_unit(images)).square().flatten(1).sum(1)


def _crossing(clone: nn.Module, images: Tensor, steps: int, length: float, tried: int) -> Tensor:
    """Move images over the nearest boundary; returns them, clipped to [0, 1]."""
    moved = images.clone()
    left = torch.arange(len(images), device=images.device)
    first: Tensor | None = None
    for _ in range(steps):
        points = moved[left].requires_grad_()
        logits = clone(points)
        order = logits.argsort(1, descending=True)[:, :tried]
        if first is None:
            first = order[:, 0]
        stays = order[:, 0] == first[left]
        if not bool(stays.any()):
            break
        step = _shortest_step(logits, order, points)
        left = left[stays]
        moved[left] = (points.detach()[stays] + length * step[stays]).clamp(0, 1)
    return moved


def _shortest_step(logits: Tensor, order: Tensor, points: Tensor) -> Tensor:
    """Return each point's step to the nearest boundary of the clone taken as linear.

    With a = |f_j - f_c| and b the gradient of f_j - f_c it is a b / ||b||^2, j with the least
    a / ||b||; the released code of ActiveThief multiplies by a b / ||b||.
    """
    ranked = logits.gather(1, order)
    gradients = [
        torch.autograd.grad(ranked[:, j].sum(), points, retain_graph=True)[0].flatten(1)
        for j in range(ranked.shape[1])
    ]
    slopes = torch.stack([gradient - gradients[0] for gradient in gradients[1:]], 1)
    gaps = (ranked[:, :1] - ranked[:, 1:]).detach()  # (n, others)
    steep = slopes.norm(dim=2).clamp_min(_TINY)
    nearest = (gaps / steep).argmin(1)
    rows = torch.arange(len(points), device=points.device)
    lengths = gaps[rows, nearest] / steep[rows, nearest].square()
    steps: Tensor = lengths[:, None] * slopes[rows, nearest]
    return steps.reshape(points.shape)


def nearest_in_turn(scores: Tensor, count: int) -> Tensor:
    """Give each class in turn the unused image that scores most for it.

    Args:
        scores: (n, K), of each image for each class.
        count: how many to choose, at most n.

    Returns:
        (count,) int64 places in the order chosen; none occurs twice.
    """
    orders = [iter(column) for column in scores.argsort(0, descending=True).T.tolist()]
    taken: dict[int, None] = {}
    while len(taken) < count:
        for order in orders[: count - len(taken)]:
            best = next(place for place in order if place not in taken)
            taken[best] = None
    return torch.tensor(list(taken), dtype=torch.int64, device=scores.device)
