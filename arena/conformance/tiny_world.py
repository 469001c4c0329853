"""A world small enough to play in a fraction of a second: synthetic images, a narrow victim."""

import copy
from functools import lru_cache

import torch
from torch import Tensor, nn

from agents.learning.clone import CloneTrainer, cross_entropy
from envs.data.images import ImageSet, Splits
from envs.data.splits import make_splits
from envs.exits.random_rules import ByHistogram
from envs.nets import registry
from envs.nets.init import materialise
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.staged import GlobalPool, Staged
from envs.seeding import Streams
from envs.victim.victim import Victim

_STREAMS = Streams(0).child("conformance")
_PER_CLASS = 48
_STEPS = 60


class TinyWorld:
    """Data, victims and clones for one image shape.

    Images are a prototype per class under noise. The victim learned them, so that it is sure of
    some images and unsure of noise, as real ones are.

    Args:
        image_shape: (channels, height, width).
        num_classes: K; not 10, so that whoever takes 10 for granted is found out.
        device: where networks and images live.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, *, device: torch.device
    ) -> None:
        self.image_shape, self.num_classes, self.device = image_shape, num_classes, device

    def splits(self) -> Splits:
        """Return the data."""
        return _splits(self.image_shape, self.num_classes).to(self.device)

    def victim(self) -> Victim:
        """Return the undefended victim, a copy of its own."""
        return Victim(MultiExit(self._backbone(), ()))

    def victim_of_changing_exits(self) -> Victim:
        """Return a victim that draws the exit of each answer afresh; its heads are untrained."""
        generator = _STREAMS.torch("heads", self.device)
        network = with_heads(self._backbone(), generator=generator)
        shares = [1.0] * network.num_exits
        return Victim(network, rule=ByHistogram(shares, "fresh"))

    def clone(self, generator: torch.Generator) -> nn.Module:
        """Return a fresh clone; it has batch normalisation, as most do, and dropout, as some."""
        with torch.device("meta"):
            network = nn.Sequential(
                nn.Conv2d(self.image_shape[0], 8, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(8),
                nn.ReLU(),
                GlobalPool(),
                nn.Linear(8, 16),
                nn.BatchNorm1d(16),
                nn.ReLU(),
                nn.Dropout(0.2),
                nn.Linear(16, self.num_classes),
            )
        return materialise(network, generator=generator).to(self.device)

    def _backbone(self) -> Staged:
        return copy.deepcopy(_trained(self.image_shape, self.num_classes)).to(self.device)


def _network(
    image_shape: tuple[int, int, int], num_classes: int, generator: torch.Generator
) -> Staged:
    return registry.build(
        "conv-small",
        num_classes=num_classes,
        image_shape=image_shape,
        generator=generator,
        mean=[0.5],
        std=[0.3],
    )


@lru_cache(maxsize=8)
def _splits(image_shape: tuple[int, int, int], num_classes: int) -> Splits:
    generator = _STREAMS.torch("images")
    prototypes = torch.rand(num_classes, *image_shape, generator=generator)
    parts = [
        _draw(prototypes, name, count, generator=generator)
        for name, count in (("train", _PER_CLASS), ("validation", 16), ("test", 16))
    ]
    return make_splits("conformance", (parts[0], parts[1], parts[2]))


def _draw(prototypes: Tensor, name: str, count: int, *, generator: torch.Generator) -> ImageSet:
    labels = torch.arange(len(prototypes)).repeat(count)
    noise = torch.randn(len(labels), *prototypes.shape[1:], generator=generator)
    images = (prototypes[labels] + 0.25 * noise).clamp(0, 1)
    names = tuple(str(k) for k in range(len(prototypes)))
    pixels = (images * 255).round().to(torch.uint8)
    return ImageSet(pixels, labels, len(prototypes), f"conformance-{name}", names)


@lru_cache(maxsize=8)
def _trained(image_shape: tuple[int, int, int], num_classes: int) -> Staged:
    network = _network(image_shape, num_classes, _STREAMS.torch("victim"))
    train = _splits(image_shape, num_classes).train
    trainer = CloneTrainer(network, cross_entropy, rate=0.05)
    generator = _STREAMS.torch("order")
    for _ in range(_STEPS):
        index = torch.randint(len(train), (32,), generator=generator)
        targets = nn.functional.one_hot(train.labels[index], num_classes).float()
        trainer.step(train.images(index), targets)
    network.eval()
    return network
