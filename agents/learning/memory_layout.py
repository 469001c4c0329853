"""How the convolutions of networks that an attacker trains lie in memory."""

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

FROM_PIXELS = 32
"""Sides of images from which channels-last was measured to be faster."""


def laid_out(network: Network, image_shape: tuple[int, int, int]) -> Network:
    """Lay convolutions channels-last on a CPU, for images of at least 32x32.

    The function is the same but for the rounding of sums; docs/speed.md tells what it saves and by
    which command. Smaller images gain little, and their networks stay as they are.

    Args:
        network: the weights of its convolutions are moved, before an optimiser knows them.
        image_shape: (channels, height, width) of what it learns from or makes.

    Returns:
        The network itself.
    """
    if min(image_shape[1:]) < FROM_PIXELS:
        return network
    for weights in network.parameters():
        if weights.ndim == 4 and weights.device.type == "cpu":
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)
    return network
