"""What a clone can learn before the first query: the classes of images one owns."""

import torch
from torch import nn

from agents.learning.features import refresh_statistics
from envs.data.images import ImageSet
from envs.errors import PlayerError
from envs.training.loop import FitReport, fit
from envs.training.recipes import Recipe


def pretrain(clone: nn.Module, images: ImageSet, recipe: Recipe, *, seed: int) -> FitReport:
    """Train the body of a clone on the labels of other images, in place.

    Another last linear layer learns their classes for that time; the clone's own, which knows the
    victim's classes by number alone, comes back as it was.

    Args:
        clone: maps (n, c, h, w) in [0, 1] to (n, K) logits by a linear layer in the end.
        images: on the clone's device, of two classes or more.
        recipe: how to train.
        seed: of the other layer, the order and the augmentation.

    Raises:
        PlayerError: the clone has no linear layer.
    """
    linear = [(path, part) for path, part in clone.named_modules() if isinstance(part, nn.Linear)]
    if not linear:
        raise PlayerError("pretraining exchanges a clone's last linear layer, and it has none")
    path, last = linear[-1]
    above, _, name = path.rpartition(".")
    parent = clone.get_submodule(above)
    generator = torch.Generator(device=images.device).manual_seed(seed)
    other = nn.Linear(last.in_features, images.num_classes, device="meta")
    other.to_empty(device=images.device)
    bound = last.in_features**-0.5
    for weights in (other.weight, other.bias):
        nn.init.uniform_(weights, -bound, bound, generator=generator)
    setattr(parent, name, other)
    try:
        report = fit(clone, images.pixels, images.labels, recipe, generator=generator)
    finally:
        setattr(parent, name, last)
    clone.train()
    refresh_statistics(clone, images.pixels, generator)
    return report
