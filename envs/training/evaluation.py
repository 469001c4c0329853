"""Evaluation that leaves no trace: no gradient, no randomness, all flags as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from envs.data.images import bytes_to_unit
from envs.training.linear_probe import images_at_once


def predict(network: nn.Module, images: Tensor, batch: int = 512) -> Tensor:
    """Compute logits in evaluation mode, without gradients and without randomness.

    Args:
        network: maps float32 images in [0, 1] to logits, on the images' device.
        images: (n, c, h, w) uint8, or float32 in [0, 1]; n at least 1.
        batch: images per forward pass; fewer of images above 64 pixels a side.

    Returns:
        (n, K) logits on the device; all training flags are as they were.
    """
    if len(images) == 0:
        raise ValueError("expected at least one image to predict")
    with flags_restored(network), torch.no_grad():
        network.eval()
        parts = torch.split(images, images_at_once(images, batch))
        return torch.cat([network(bytes_to_unit(part)) for part in parts])


def evaluate(network: nn.Module, images: Tensor, targets: Tensor, *, batch: int = 512) -> float:
    """Measure accuracy: the share of images whose largest logit is that of the target.

    Args:
        network: maps float32 images in [0, 1] to logits, on the images' device.
        images: (n, c, h, w) uint8, or float32 in [0, 1]; n at least 1.
        targets: (n,) labels, or (n, K) posteriors, whose largest entry counts.
        batch: images per forward pass.
    """
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    return (predict(network, images, batch).argmax(1) == labels).double().mean().item()


@contextmanager
def flags_restored(network: nn.Module) -> Iterator[None]:
    """Restore the training flag of every module, which may differ among them."""
    flags = [(module, module.training) for module in network.modules()]
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag
