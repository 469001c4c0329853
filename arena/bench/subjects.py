"""What is measured: networks with random weights, images, and a rule that makes a known mix."""

from typing import Any

import torch
from torch import Tensor

from envs.data.images import ImageSet, to_pixels
from envs.exits.rules import ExitDecision, Thresholds
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build

Shape = tuple[int, int, int]

SHAPE: Shape = (3, 32, 32)
CLASSES = 10
MIXES = ("all-last", "uniform", "90 % first")


def generator(seed: int = 0) -> torch.Generator:
    """Return a stream on the CPU."""
    return torch.Generator().manual_seed(seed)


def images(count: int, seed: int = 1, shape: Shape = SHAPE) -> Tensor:
    """Draw (count, *shape) noise images."""
    return torch.rand((count, *shape), generator=generator(seed))


def image_set(count: int, shape: Shape = SHAPE) -> ImageSet:
    """Draw a set of noise images with labels 0 to 9 in turn."""
    return ImageSet(
        to_pixels(images(count, shape=shape)),
        torch.arange(count) % CLASSES,
        CLASSES,
        "noise",
        tuple(str(label) for label in range(CLASSES)),
    )


def eight_exits(width: float = 1.0) -> MultiExit:
    """Build the ResNet34-8x with exits after every second block: eight of them."""
    # `Any`: the registry takes each network's own options
    options: dict[str, Any] = {"width": width, "exit_every": 2}
    backbone = build(
        "resnet34-8x", num_classes=CLASSES, image_shape=SHAPE, generator=generator(), **options
    )
    return with_heads(backbone, generator=generator(1), exits=range(7)).eval()


def plain(name: str, width: float = 1.0, shape: Shape = SHAPE) -> MultiExit:
    """Build a network without exits."""
    options: dict[str, Any] = {} if width == 1.0 else {"width": width}
    network = build(name, num_classes=CLASSES, image_shape=shape, generator=generator(), **options)
    return MultiExit(network).eval()


def mix(name: str, count: int, num_exits: int) -> Tensor:
    """Return the (count,) exits of a mix, in shuffled order."""
    order = torch.randperm(count, generator=generator(2))
    if name == "all-last":
        return torch.full((count,), num_exits - 1)
    if name == "uniform":
        return (torch.arange(count) % num_exits)[order]
    if name == "90 % first":
        late = 1 + torch.arange(count) % (num_exits - 1)
        return torch.where(order < round(0.9 * count), torch.zeros_like(late), late)
    raise ValueError(f"expected a mix out of {MIXES}, got {name!r}")


class Planned(Thresholds):
    """Does all the work of thresholds at every exit, and lets images leave as planned.

    Random networks have no mix of their own; the cost of a real rule is part of what is measured.
    """

    def __init__(self, exits: Tensor, num_exits: int) -> None:
        super().__init__([0.5] * (num_exits - 1))
        self._exits = exits

    def begin(self, images: Tensor, *, generator: torch.Generator, ood: bool) -> Tensor:
        """Remember each image's exit."""
        return self._exits.double()[:, None]

    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Whoever is planned to."""
        return state[:, 0] == exit_index

    def judge(
        self, exit_index: int, logits: Tensor, state: Tensor, *, tolerance: float
    ) -> ExitDecision:
        """Decide as thresholds do, with nobody close to one."""
        verdict = super().judge(exit_index, logits, state, tolerance=tolerance)
        return verdict._replace(close=torch.zeros_like(verdict.leaves))
