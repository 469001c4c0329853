"""Lays a network out for answering: normalisation folded, activations in place, channels last."""

import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(network: nn.Module) -> None:
    """Change a network in evaluation mode, in place; it computes the same where its order is."""
    for module in list(network.modules()):
        _fold_pairs(module)
        if isinstance(module, nn.ReLU | nn.ReLU6):
            module.inplace = True
    network.to(memory_format=torch.channels_last)


def _fold_pairs(module: nn.Module) -> None:
    """Fold each normalisation into the convolution listed right before it."""
    for (name, layer), (next_name, norm) in itertools.pairwise(list(module.named_children())):
        if not (isinstance(layer, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)):
            continue
        if norm.running_mean is not None and norm.num_features == layer.out_channels:
            setattr(module, name, fuse_conv_bn_eval(layer, norm))
            setattr(module, next_name, nn.Identity())
