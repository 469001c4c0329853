"""A network with guards: exits that tell OOD images by all that was seen on the way.

An exit head of `MultiExit` reads the pooled features of its own stage. A guard reads those of
every stage up to its own, which tells images near to the victim's own much better: the early ones
hold texture, the late ones meaning, and what is odd is often only their combination.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from envs.nets.exit_head import ExitHead
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged


class Guarded(MultiExit):
    """A backbone with a guard after every stage, and one exit in between for sure answers.

    The exits are the guards in the order of the stages, the lane right after the guard of the
    last stage but one, and the original classifier. A guard's log-odds are its suspicion: the
    higher, the more OOD the image. Its class is always the first and means nothing. The lane
    is a classifier; the surest of the victim's own images may take it and spare the last stage.

    Between two stages the pooled features seen so far travel behind the channels of the map.

    Args:
        backbone: any staged network.
        generator: weights of guards and lane, which land on its device; without one they are
            outlines on the meta device.
        hidden: units of the hidden layer of a guard and of the lane.

    Attributes:
        lane: number of the lane's exit; None on a network of one stage.
    """

    def __init__(
        self, backbone: Staged, *, generator: torch.Generator | None = None, hidden: int = 32
    ) -> None:
        super().__init__(backbone)
        count, classes = len(backbone.stages), backbone.num_classes
        stages = list(range(count))
        self.lane: int | None = count - 1 if count > 1 else None
        if self.lane is not None:
            stages.insert(self.lane, count - 2)
        self._seen = [sum(backbone.widths[: stage + 1]) for stage in stages]
        self.heads = nn.ModuleList(
            ExitHead(width, classes if e == self.lane else 1, generator=generator, hidden=hidden)
            for e, width in enumerate(self._seen)
        )
        self.exit_stages, self.num_exits = tuple(stages), len(stages) + 1
        ends = [0, *(stage + 1 for stage in stages), count]
        self.segments = tuple(itertools.pairwise(ends))

    @property
    def guards(self) -> tuple[int, ...]:
        """The exits that are guards."""
        return tuple(e for e in range(self.num_exits - 1) if e != self.lane)

    def run_segment(self, e: int, features: Tensor) -> Tensor:
        """Run the stages between exit e - 1 and exit e; see `MultiExit.run_segment`."""
        for stage in range(*self.segments[e]):
            bare, seen = (features, None) if stage == 0 else self._unpack(stage - 1, features)
            bare = self.backbone.stages[stage](bare)
            pooled = self.backbone.pool(bare, stage)
            features = _pack(bare, pooled if seen is None else torch.cat([seen, pooled], 1))
        return features

    def pool(self, e: int, features: Tensor) -> Tensor:
        """Return what exit e answers from: (n, all widths so far), or the classifier's input."""
        if e == self.num_exits - 1:
            return self.backbone.embed(self._unpack(len(self.backbone.stages) - 1, features)[0])
        # a view would keep the whole map alive: 14 GB for the training images of CIFAR-10
        return self._unpack(self.exit_stages[e], features)[1].contiguous()

    def answer(self, e: int, pooled: Tensor) -> Tensor:
        """Return (n, K) logits of exit e; those of a guard have its suspicion as log-odds."""
        if e == self.num_exits - 1 or e == self.lane:
            return super().answer(e, pooled)
        suspicion = super().answer(e, pooled)  # (n, 1)
        others = suspicion.new_zeros(len(pooled), self.num_classes - 1)
        return torch.cat([suspicion + math.log(self.num_classes - 1), others], 1)

    def _unpack(self, stage: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """Part a stage's map from the pooled features that travel behind it."""
        axis, width = _axis(features), self.backbone.widths[stage]
        bare, behind = features.split([width, features.shape[axis] - width], axis)
        # every place holds the same numbers
        while behind.ndim > 2:
            behind = behind.select(1 if axis == behind.ndim - 1 else behind.ndim - 1, 0)
        return bare, behind


def suspicions(network: Guarded, pooled: Sequence[Tensor]) -> list[Tensor]:
    """Return the (n,) suspicion of each guard, from what `Guarded.features` gave."""
    return [network.head(e)(pooled[e]).squeeze(1) for e in network.guards]


def _axis(features: Tensor) -> int:
    """Return where the channels are: last in (n, tokens, width), else second."""
    return 2 if features.ndim == 3 else 1


def _pack(features: Tensor, seen: Tensor) -> Tensor:
    """Put (n, w) numbers behind the channels of a map, the same at every place."""
    axis = _axis(features)
    while seen.ndim < features.ndim:
        seen = seen.unsqueeze(1 if axis == features.ndim - 1 else -1)
    places = list(features.shape)
    places[axis] = seen.shape[axis]
    return torch.cat([features, seen.expand(places)], axis)
