"""ResNets for images of 8 to 64 pixels: a 3x3 stem, no max-pool, basic blocks.

`resnet18-8x` and `resnet34-8x` are the CIFAR networks of the extraction literature (total
stride 8); `resnet10` keeps their four stages at a size that trains on one CPU core. They are not
the ImageNet networks of the usual model libraries, whose stem would throw most of a small image
away.

Source:
    He et al. 2016, arXiv:1512.03385.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from envs.errors import ScenarioError
from envs.nets.staged import GlobalPool, Plan, Staged, scaled


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; a 1x1 projection where the shape changes."""

    def __init__(self, before: int, after: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, before, h, w) to (n, after, h/stride, w/stride)."""
        # in place on what was just made: a new map costs more than the arithmetic on it
        branch = F.relu(self.norm1(self.conv1(features)), inplace=True)
        branch = self.norm2(self.conv2(branch))
        branch += self.shortcut(features)
        return F.relu(branch, inplace=True)


def resnet18_8x(plan: Plan, *, width: float = 1.0, exit_every: int = 0) -> Staged:
    """Lay out the ResNet-18 of CIFAR size; see `resnet34_8x`."""
    return _cifar_resnet(plan, (2, 2, 2, 2), width=width, exit_every=exit_every)


def resnet34_8x(plan: Plan, *, width: float = 1.0, exit_every: int = 0) -> Staged:
    """Lay out the ResNet-34 of CIFAR size, total stride 8.

    Args:
        plan: for images of at least 16x16.
        width: factor on all channel counts.
        exit_every: cut a stage after so many blocks instead of at the changes of resolution;
            2 gives the eight places of the serving benchmark.
    """
    return _cifar_resnet(plan, (3, 4, 6, 3), width=width, exit_every=exit_every)


def resnet10(
    plan: Plan, *, width: float = 1.0, stem_stride: int | None = None, exit_every: int = 0
) -> Staged:
    """Lay out the small ResNet: four stages of one block.

    Args:
        plan: for images of at least 8x8. Below 20 pixels the widths are 16/32/64/64 at total
            stride 4, above 16/32/64/128 behind a stem of stride 2.
        width: factor on all channel counts; 0.5 is the usual clone.
        stem_stride: 1 or 2, instead of the default for the image size.
        exit_every: cut a stage after so many blocks.
    """
    small = plan.tiny
    stride = stem_stride if stem_stride is not None else (1 if small else 2)
    plan.require_size(8 * stride, "use 'mlp-small', or pad the images")
    return _resnet(
        plan,
        (1, 1, 1, 1),
        widths=(16, 32, 64, 64) if small else (16, 32, 64, 128),
        strides=(1, 2, 1, 2) if small else (1, 2, 2, 2),
        factor=width,
        stem_stride=stride,
        exit_every=exit_every,
    )


def _cifar_resnet(plan: Plan, blocks: Sequence[int], *, width: float, exit_every: int) -> Staged:
    plan.require_size(16, "use 'resnet10', whose last map stays 2x2")
    return _resnet(
        plan,
        blocks,
        widths=(64, 128, 256, 512),
        strides=(1, 2, 2, 2),
        factor=width,
        stem_stride=1,
        exit_every=exit_every,
    )


def _resnet(
    plan: Plan,
    blocks: Sequence[int],
    *,
    widths: Sequence[int],
    strides: Sequence[int],
    factor: float,
    stem_stride: int,
    exit_every: int,
) -> Staged:
    if stem_stride not in (1, 2):
        raise ScenarioError(f"expected a stem_stride of 1 or 2, got {stem_stride}")
    if exit_every < 0:
        raise ScenarioError(f"expected exit_every to be a number of blocks or 0, got {exit_every}")
    channels = [scaled(width, factor) for width in widths]
    groups = _lay_blocks(channels, blocks, strides)
    if exit_every:
        chain = [block for group in groups for block in group]
        groups = [chain[i : i + exit_every] for i in range(0, len(chain), exit_every)]
    stem = nn.Sequential(
        nn.Conv2d(plan.channels, channels[0], 3, stem_stride, 1, bias=False),
        nn.BatchNorm2d(channels[0]),
        nn.ReLU(),
    )
    stages = [nn.Sequential(*group) for group in groups]
    stages[0].insert(0, stem)
    return Staged(
        plan,
        stages,
        widths=[group[-1].conv2.out_channels for group in groups],
        neck=GlobalPool(),
        classifier=nn.Linear(channels[-1], plan.num_classes),
        family="resnet",
        depth=2 * sum(blocks) + 2,
        width=channels[0],
    )


def _lay_blocks(
    channels: Sequence[int], blocks: Sequence[int], strides: Sequence[int]
) -> list[list[BasicBlock]]:
    groups, before = [], channels[0]
    for after, count, stride in zip(channels, blocks, strides, strict=True):
        first = BasicBlock(before, after, stride=stride)
        groups.append([first, *(BasicBlock(after, after, stride=1) for _ in range(count - 1))])
        before = after
    return groups
