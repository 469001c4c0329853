"""MobileNetV2 for small images: stem of stride 1, inverted residuals, plain channel counts.

Source:
    Sandler et al. 2018, arXiv:1801.04381, with the strides of the CIFAR ports.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from envs.errors import ScenarioError
from envs.nets.staged import GlobalPool, Plan, Staged, scaled


class Cell(NamedTuple):
    """A run of inverted residuals: expansion, channels, repeats, stride of the first."""

    expansion: int
    channels: int
    repeats: int
    stride: int


# the first stage ends after 24 channels, then 32, 96 and 320: 17, 31, 67 and 93 % of the MACs
_CIFAR: tuple[tuple[Cell, ...], ...] = (
    (Cell(1, 16, 1, 1), Cell(6, 24, 2, 1)),
    (Cell(6, 32, 3, 2),),
    (Cell(6, 64, 4, 2), Cell(6, 96, 3, 1)),
    (Cell(6, 160, 3, 2), Cell(6, 320, 1, 1)),
)
_SMALL: tuple[tuple[Cell, ...], ...] = (
    (Cell(1, 16, 1, 1),),
    (Cell(4, 24, 2, 2),),
    (Cell(4, 32, 2, 2),),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection without activation.

    The shortcut exists only where neither resolution nor channels change.
    """

    def __init__(self, before: int, after: int, *, expansion: int, stride: int) -> None:
        super().__init__()
        inner = before * expansion
        # expansion 1 has nothing to expand, so it has no first convolution
        layers = [*_conv(before, inner)] if expansion > 1 else []
        layers += _conv(inner, inner, kernel=3, stride=stride, groups=inner)
        layers += [nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.branch = nn.Sequential(*layers)
        self.residual = stride == 1 and before == after

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, before, h, w) to (n, after, h/stride, w/stride)."""
        branch: Tensor = self.branch(features)
        return features + branch if self.residual else branch


def mobilenetv2(plan: Plan, *, width: float = 1.0, dropout: float = 0.2) -> Staged:
    """Lay out the CIFAR form, total stride 8.

    Args:
        plan: for images of at least 16x16.
        width: factor on all channel counts.
        dropout: before the classifier; acts in train mode only.
    """
    plan.require_size(16, "use 'mobilenetv2-small'")
    return _mobilenet(plan, _CIFAR, stem=(32, 1), last=1280, factor=width, dropout=dropout)


def mobilenetv2_small(plan: Plan, *, width: float = 1.0, dropout: float = 0.0) -> Staged:
    """Lay out a few cells: three for images below 20 pixels, four behind a stride-2 stem above.

    Args:
        plan: for images of at least 8x8.
        width: factor on all channel counts.
        dropout: before the classifier; acts in train mode only.
    """
    plan.require_size(8, "use 'mlp-small', or pad the images")
    if plan.tiny:
        return _mobilenet(plan, _SMALL, stem=(16, 1), last=64, factor=width, dropout=dropout)
    cells = (*_SMALL, (Cell(4, 64, 2, 2),))
    return _mobilenet(plan, cells, stem=(16, 2), last=128, factor=width, dropout=dropout)


def _mobilenet(
    plan: Plan,
    groups: Sequence[Sequence[Cell]],
    *,
    stem: tuple[int, int],
    last: int,
    factor: float,
    dropout: float,
) -> Staged:
    if not 0 <= dropout < 1:
        raise ScenarioError(f"expected a dropout in [0, 1), got {dropout}")
    base = before = scaled(stem[0], factor)
    stages: list[nn.Module] = []
    widths: list[int] = []
    for group in groups:
        layers = list(_conv(plan.channels, base, kernel=3, stride=stem[1])) if not stages else []
        for cell in group:
            layers += _lay_cell(before, cell, factor)
            before = scaled(cell.channels, factor)
        stages.append(nn.Sequential(*layers))
        widths.append(before)
    feature_width = scaled(last, max(factor, 1.0))
    blocks = [cell for group in groups for cell in group for _ in range(cell.repeats)]
    return Staged(
        plan,
        stages,
        widths=widths,
        neck=nn.Sequential(*_conv(before, feature_width), GlobalPool()),
        classifier=nn.Sequential(nn.Dropout(dropout), nn.Linear(feature_width, plan.num_classes)),
        family="mobilenet",
        depth=3 + sum(3 if cell.expansion > 1 else 2 for cell in blocks),
        width=base,
    )


def _lay_cell(before: int, cell: Cell, factor: float) -> list[nn.Module]:
    after = scaled(cell.channels, factor)
    first = InvertedResidual(before, after, expansion=cell.expansion, stride=cell.stride)
    rest = (
        InvertedResidual(after, after, expansion=cell.expansion, stride=1)
        for _ in range(cell.repeats - 1)
    )
    return [first, *rest]


def _conv(
    before: int, after: int, *, kernel: int = 1, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(after), nn.ReLU6()]
