"""DenseNets for small images.

`densenet121` is the CIFAR form of the extraction literature: a 3x3 stem of stride 1 that keeps
the stride-2 max-pool, so its dense blocks see 16, 8, 4 and 2 pixels of a 32-pixel image.

Source:
    Huang et al. 2017, arXiv:1608.06993.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.errors import ScenarioError
from envs.nets.staged import GlobalPool, Plan, Staged


class DenseLayer(nn.Module):
    """Norm-ReLU-1x1 to four times the growth, norm-ReLU-3x3 to the growth, appended."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.BatchNorm2d(before),
            nn.ReLU(),
            nn.Conv2d(before, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, before, h, w) to (n, before + growth, h, w)."""
        return torch.cat((features, self.branch(features)), 1)


def densenet121(plan: Plan, *, growth: int = 32) -> Staged:
    """Lay out DenseNet-121 in its CIFAR form.

    Args:
        plan: for images of at least 32x32.
        growth: channels that each layer adds; the stem has twice as many.
    """
    plan.require_size(32, "use 'densenet-small', or pad the images to 32")
    return _densenet(
        plan, (6, 12, 24, 16), growth=growth, stem=2 * growth, stem_stride=1, max_pool=True
    )


def densenet_small(plan: Plan, *, growth: int = 8) -> Staged:
    """Lay out two dense blocks of three layers.

    Args:
        plan: for images of at least 8x8; from 20 pixels the stem has stride 2.
        growth: channels that each layer adds; the stem has twice as many.
    """
    plan.require_size(8, "use 'mlp-small', or pad the images")
    stride = 1 if plan.tiny else 2
    return _densenet(
        plan, (3, 3), growth=growth, stem=2 * growth, stem_stride=stride, max_pool=False
    )


def _densenet(
    plan: Plan,
    blocks: Sequence[int],
    *,
    growth: int,
    stem: int,
    stem_stride: int,
    max_pool: bool,
) -> Staged:
    if growth < 1:
        raise ScenarioError(f"expected a growth of at least 1 channel, got {growth}")
    stages: list[nn.Module] = []
    widths: list[int] = []
    before = stem
    for count in blocks:
        entry = _transition(before) if stages else _stem(plan, stem, stem_stride, max_pool)
        before = before // 2 if stages else before
        layers = [DenseLayer(before + i * growth, growth) for i in range(count)]
        before += count * growth
        # the last norm and ReLU come before the pooling, so they belong to the last stage
        closing = [nn.BatchNorm2d(before), nn.ReLU()] if len(stages) == len(blocks) - 1 else []
        stages.append(nn.Sequential(*entry, *layers, *closing))
        widths.append(before)
    return Staged(
        plan,
        stages,
        widths=widths,
        neck=GlobalPool(),
        classifier=nn.Linear(before, plan.num_classes),
        family="densenet",
        depth=2 * sum(blocks) + len(blocks) + 1,
        width=growth,
    )


def _stem(plan: Plan, channels: int, stride: int, max_pool: bool) -> list[nn.Module]:
    layers: list[nn.Module] = [
        nn.Conv2d(plan.channels, channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    ]
    return [*layers, nn.MaxPool2d(3, 2, 1)] if max_pool else layers


def _transition(before: int) -> list[nn.Module]:
    return [
        nn.BatchNorm2d(before),
        nn.ReLU(),
        nn.Conv2d(before, before // 2, 1, bias=False),
        nn.AvgPool2d(2),
    ]
