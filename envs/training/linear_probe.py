"""Trains a classifier on a frozen body: what the body makes of the images is computed once.

Each epoch after that costs next to nothing. It is how clones and victims of the size of a Swin-L
are trained: only (width + 1) x K parameters learn.
"""

import torch
from torch import Tensor, nn

from envs.data.images import bytes_to_unit
from envs.nets.staged import Staged

_PLACES = 2**21  # pixels of a batch that is embedded at once


def images_at_once(images: Tensor, most: int) -> int:
    """Return how many images may go through a network together: fewer of large ones.

    Up to 64 pixels a side it is `most`; from there memory decides.
    """
    places = images.shape[-1] * images.shape[-2] if images.ndim == 4 else 1
    return max(1, min(most, max(16, _PLACES // places)))


def without_body(network: nn.Module, images: Tensor, augment: str) -> tuple[nn.Module, Tensor]:
    """Return what is left to train, and what it is trained on.

    Args:
        network: any; only one with a frozen body is shortened.
        images: (n, c, h, w) uint8, or float32 in [0, 1].
        augment: name of the augmentation; every epoch sees other images unless it is "none".

    Returns:
        The network and the images as they are; or its classifier and the (n, feature width)
        float32 it reads, where nothing before it can change.
    """
    if not isinstance(network, Staged) or not network.body_frozen or augment != "none":
        return network, images
    return network.classifier, embedded(network, images)


@torch.no_grad()
def embedded(network: Staged, images: Tensor) -> Tensor:
    """Compute the classifier's input for images, (n, feature width) float32.

    Args:
        network: its body is in eval mode.
        images: (n, c, h, w) uint8, or float32 in [0, 1].
    """
    parts = []
    for part in images.split(images_at_once(images, 512)):
        features = bytes_to_unit(part)
        for stage in network.stages:
            features = stage(features)
        parts.append(network.embed(features).float())
    return torch.cat(parts)
