"""What a clone makes of an image before it answers."""

import torch
from torch import Tensor, nn

from agents.learning.clone import own_chance
from envs.data.images import bytes_to_unit
from envs.training.evaluation import flags_restored

_AT_ONCE = 512


def with_features(clone: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Run a clone and listen at its last linear layer.

    Args:
        clone: maps (n, c, h, w) in [0, 1] to (n, K) logits, in the mode it is in.
        images: (n, c, h, w) float32 in [0, 1].

    Returns:
        (n, d) features, the input of that layer, and (n, K) logits, both with their gradients.
        A clone without such a layer has its logits for features.
    """
    heard: list[Tensor] = []
    linear = [part for part in clone.modules() if isinstance(part, nn.Linear)]
    hook = None
    if linear:
        hook = linear[-1].register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    try:
        logits: Tensor = clone(images)
    finally:
        if hook is not None:
            hook.remove()
    return (heard[-1].flatten(1) if heard else logits), logits


@torch.no_grad()
def features_of(clone: nn.Module, pixels: Tensor) -> Tensor:
    """Return (n, d) features of (n, c, h, w) uint8 images, in evaluation mode."""
    with flags_restored(clone):
        clone.eval()
        parts = [with_features(clone, bytes_to_unit(part))[0] for part in pixels.split(_AT_ONCE)]
    return torch.cat(parts)


@torch.no_grad()
def refresh_statistics(clone: nn.Module, pixels: Tensor, generator: torch.Generator) -> None:
    """Let batch normalisation gather its running statistics anew, from these images alone.

    Dropout draws from `generator`.
    """
    norms = [part for part in clone.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    norms = [part for part in norms if part.training and part.running_mean is not None]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean of all batches
    for part in pixels.split(_AT_ONCE):
        if norms and len(part) > 1:
            with own_chance(generator):
                clone(bytes_to_unit(part))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
