"""Trains a masked autoencoder to restore images, and asks it how well it does."""

import math

import torch
from torch import Tensor

from envs.data.images import ImageSet
from envs.nets.masked_autoencoder import MaskedAutoencoder

_BETAS, _DECAY = (0.9, 0.95), 0.05
_WARM_UP = 0.1  # of the epochs; 50 of 500 as published
_CHUNK = 256


def centred(images: Tensor) -> Tensor:
    """Move images from [0, 1] to [-1, 1], in which reconstructions and their errors are."""
    return 2 * images - 1


def train_autoencoder(
    network: MaskedAutoencoder,
    own: ImageSet,
    *,
    mask: float,
    epochs: int,
    learning_rate: float,
    batch: int,
    generator: torch.Generator,
) -> None:
    """Train in place by AdamW, so that hidden patches are restored from those that are seen.

    The loss is the mean squared error of the whole image, not of the hidden part alone, over the
    masked share, as in SAME's code. The rate rises linearly in the first tenth of the epochs and
    falls along a cosine, whichever is lower.

    Args:
        network: to train.
        own: images.
        mask: share of the patches that are hidden, 0 to less than 1.
        epochs: passes over the images.
        learning_rate: the highest.
        batch: images per step.
        generator: of order and masks, on the images' device.
    """
    optimiser = torch.optim.AdamW(
        network.parameters(), learning_rate, betas=_BETAS, weight_decay=_DECAY
    )
    places = network.places.shape[1]
    seen = max(1, int(places * (1 - mask)))
    network.train()
    for epoch in range(epochs):
        rate = learning_rate * rate_factor(epoch, epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        order = torch.randperm(len(own), generator=generator, device=own.device)
        for picked in order.split(batch):
            images = centred(own.images(picked))
            luck = torch.rand(len(images), places, generator=generator, device=own.device)
            restored = network(images, luck.argsort(1), seen)
            loss = (restored - images).square().mean() / max(mask, 1 / places)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    network.eval()


def rate_factor(epoch: int, epochs: int) -> float:
    """Return the share of the learning rate in an epoch, counted from 0."""
    rising = (epoch + 1) / max(_WARM_UP * epochs, 1e-8)
    return min(rising, 0.5 * (1 + math.cos(math.pi * epoch / epochs)))


@torch.no_grad()
def restored(network: MaskedAutoencoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Restore images of which all is seen.

    Args:
        network: trained.
        images: (n, c, h, w) float32 in [0, 1].

    Returns:
        (n, c, h, w) in [0, 1], and the (n,) float64 mean squared errors of the pixels in [-1, 1].
    """
    found, errors = [], []
    for part in images.split(_CHUNK):
        wanted = centred(part)
        got = network(wanted)
        errors.append((got - wanted).double().square().flatten(1).mean(1))
        found.append(((got + 1) / 2).clamp(0, 1))
    return torch.cat(found), torch.cat(errors)
