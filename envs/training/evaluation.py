"""Evaluation that leaves no trace: no gradient, no randomness, all flags as they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from envs.data.images import bytes_to_unit
from envs.errors import PlayerError
from envs.plain_tensors import plain_tensor, with_overrides, without_overrides
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


def clone_labels(clone: nn.Module, images: Tensor, num_classes: int, batch: int = 512) -> Tensor:
    """Compute the labels that a player's clone gives, by plain tensors alone.

    Args:
        clone: maps float32 images in [0, 1] to (n, num_classes) logits, on the images' device.
        images: (n, c, h, w) uint8, or float32 in [0, 1]; n at least 1.
        num_classes: classes of the victim, K.
        batch: images per forward pass; fewer of images above 64 pixels a side.

    Returns:
        (n,) int64 on the images' device; all training flags are as they were.

    Raises:
        PlayerError: the clone is no module, or its answers are not (n, K) finite floats.
    """
    if not isinstance(clone, nn.Module):
        raise PlayerError(f"expected a torch.nn.Module as clone, got {type(clone).__name__}")
    labels = []
    with without_overrides(), flags_restored(clone), torch.no_grad():
        clone.eval()
        for part in torch.split(images, images_at_once(images, batch)):
            with with_overrides():
                answers = clone(bytes_to_unit(part))
            logits = _plain_logits(answers, len(part), num_classes)
            labels.append(logits.argmax(1).to(images.device))
        return torch.cat(labels)


def _plain_logits(answers: object, count: int, num_classes: int) -> Tensor:
    """Return a clone's answers as plain (count, num_classes) finite floats, or refuse them."""
    expected = f"expected a clone that answers ({count}, {num_classes}) logits for {count} images"
    try:
        logits = plain_tensor(answers)
    except TypeError as error:
        raise PlayerError(f"{expected}, got {error}") from error
    if tuple(logits.shape) != (count, num_classes):
        raise PlayerError(f"{expected}, got shape {tuple(logits.shape)}")
    if not logits.is_floating_point():
        raise PlayerError(f"{expected}, got {logits.dtype} instead of floats")
    if not bool(torch.isfinite(logits).all()):
        raise PlayerError("the clone answers NaN or infinity; lower the attacker's learning rate")
    return logits


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


@contextmanager
def state_restored(network: nn.Module) -> Iterator[None]:
    """Restore parameters and buffers, which may be written in place or moved to another dtype."""
    tensors = [*network.parameters(), *network.buffers()]
    before = [(tensor.detach(), tensor.detach().clone()) for tensor in tensors]
    held = [(module, dict(module.named_buffers(recurse=False))) for module in network.modules()]
    try:
        yield
    finally:
        # tensors of inference mode can be written in no other
        with torch.inference_mode():
            for memory, values in before:
                memory.copy_(values)
        for tensor, (memory, _) in zip(tensors, before, strict=True):
            if tensor.data_ptr() != memory.data_ptr():
                tensor.data = memory
        for module, buffers in held:  # another dtype makes new ones
            for name, buffer in buffers.items():
                if getattr(module, name) is not buffer:
                    setattr(module, name, buffer)
