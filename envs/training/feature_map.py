"""Maps a network's features to the plane, where images of one class lie together."""

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from envs.nets.init import materialise

_LAYERS = 4
_TEMPERATURE = 0.07
_RATE, _MOMENTUM, _DECAY = 0.01, 0.9, 1e-4
_HALVINGS = 5


def plane_map(width: int, generator: torch.Generator) -> nn.Sequential:
    """Build a perceptron of four layers from (n, width) features to (n, 2) points.

    Widths fall by one factor from layer to layer: 512, 128, 32, 8, 2 from 512 features.
    """
    widths = [max(2, round(width * (2 / width) ** (i / _LAYERS))) for i in range(_LAYERS + 1)]
    with torch.device("meta"):
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            # units that are cut off at 0 die: a layer of four or eight of them, all at once
            layers += [nn.Linear(before, after), nn.Tanh()]
        network = nn.Sequential(*layers[:-1])
    return materialise(network, generator=generator)


def supervised_contrast(points: Tensor, labels: Tensor) -> Tensor:
    """Measure how badly points of one class are told from those of others.

    The mean over the points i of -mean over the others j of i's class of
    log(exp(z_i z_j / 0.07) / sum over all k but i of exp(z_i z_k / 0.07)). A point that is alone in
    its class counts as 0.

    Args:
        points: (n, d) float; they are not normalised here.
        labels: (n,) int64.

    Source:
        Khosla et al. 2020, Supervised Contrastive Learning, NeurIPS, arXiv:2004.11362, equation 2.
    """
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    likeness = (points @ points.T / _TEMPERATURE).masked_fill(itself, -torch.inf)
    logs = likeness.log_softmax(1).masked_fill(itself, 0.0)
    friends = (labels[:, None] == labels[None]) & ~itself
    counts = friends.sum(1)
    means = (logs * friends).sum(1) / counts.clamp_min(1)
    return -means.mean()


def train_map(
    network: nn.Module,
    features: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch: int,
    generator: torch.Generator,
) -> None:
    """Train a map in place: SGD at 0.01, momentum 0.9, decay 1e-4, halved after each fifth.

    Args:
        network: maps (n, width) features to (n, 2) points.
        features: (n, width) float32.
        labels: (n,) int64.
        epochs: passes over the features.
        batch: features per step.
        generator: of their order, on their device.
    """
    optimiser = torch.optim.SGD(
        network.parameters(), _RATE, momentum=_MOMENTUM, weight_decay=_DECAY
    )
    schedule = torch.optim.lr_scheduler.StepLR(optimiser, max(1, epochs // _HALVINGS), gamma=0.5)
    for _ in range(epochs):
        order = torch.randperm(len(features), generator=generator, device=features.device)
        for picked in _batches(order, batch):
            loss = supervised_contrast(network(features[picked]), labels[picked])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        schedule.step()


def _batches(order: Tensor, batch: int) -> Iterator[Tensor]:
    """Cut an order into batches; what is left over after full ones waits for the next epoch."""
    for start in range(0, max(len(order) - batch, 0) + 1, batch):
        yield order[start : start + batch]
