"""A network with exit heads: the victim of honour, and any network at all.

Exits are numbered 0 .. num_exits - 1 in code; the last one is the original classifier. A network
without heads has that one exit, so whoever serves answers needs to know only this class.
"""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from envs.nets.exit_head import ExitHead
from envs.nets.staged import Staged

__all__ = ["ExitHead", "MultiExit", "with_heads"]


class MultiExit(nn.Module):
    """A backbone with exit heads after some of its stages.

    Args:
        backbone: any staged network.
        heads: one per exit before the last; none makes the plain network.
        exits: 0-based stages that the heads follow, rising; the first stages if not given.

    Attributes:
        num_exits: heads + 1.
        exit_stages: the stage of each head.
        segments: for each exit, the half-open range of stages that lead to it.

    Raises:
        ValueError: the exits are not rising stages of the backbone, one per head, or a head
            does not fit its stage.
    """

    def __init__(
        self,
        backbone: Staged,
        heads: Sequence[ExitHead] = (),
        *,
        exits: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        stages = tuple(range(len(heads)) if exits is None else exits)
        _check_exits(backbone, heads, stages)
        self.backbone, self.heads = backbone, nn.ModuleList(heads)
        self.exit_stages, self.num_exits = stages, len(heads) + 1
        self.num_classes, self.image_shape = backbone.num_classes, backbone.image_shape
        ends = (0, *(stage + 1 for stage in stages), len(backbone.stages))
        self.segments = tuple(itertools.pairwise(ends))
        self._frozen = False

    @property
    def exit_names(self) -> tuple[str, ...]:
        """A name for each exit: that of the stage that it follows, or the whole."""
        names = self.backbone.stage_names
        return (*(names[stage] for stage in self.exit_stages), "whole network")

    def head(self, e: int) -> ExitHead:
        """Return the head of exit e, 0 .. num_exits - 2."""
        head = self.heads[e]
        assert isinstance(head, ExitHead)
        return head

    def run_segment(self, e: int, features: Tensor) -> Tensor:
        """Run the stages between exit e - 1 and exit e.

        Args:
            e: the exit, 0 .. num_exits - 1. The last segment is empty where a head follows the
                last stage.
            features: what segment e - 1 returned, or images (n, c, h, w) for e = 0.
        """
        for stage in range(*self.segments[e]):
            features = self.backbone.stages[stage](features)
        return features

    def pool(self, e: int, features: Tensor) -> Tensor:
        """Return what exit e answers from: (n, width), of what segment e returned."""
        if e == self.num_exits - 1:
            return self.backbone.embed(features)
        if self.head(e).layer_norm:
            features = _normalise_channels(features)
        return self.backbone.pool(features, self.exit_stages[e])

    def answer(self, e: int, pooled: Tensor) -> Tensor:
        """Return (n, K) logits of exit e from what `pool` or `features` gave for it."""
        last = e == self.num_exits - 1
        logits: Tensor = (self.backbone.classifier if last else self.heads[e])(pooled)
        return logits

    def logits(self, e: int, features: Tensor) -> Tensor:
        """Return (n, K) logits of exit e from what segment e returned."""
        return self.answer(e, self.pool(e, features))

    def forward(self, images: Tensor) -> Tensor:
        """Return the final (n, K) logits; no head runs."""
        logits: Tensor = self.backbone(images)
        return logits

    def forward_all(self, images: Tensor) -> Tensor:
        """Return the logits of every exit, (exits, n, K)."""
        pooled = self.features(images)
        return torch.stack([self.answer(e, vectors) for e, vectors in enumerate(pooled)])

    def features(self, images: Tensor) -> list[Tensor]:
        """Return what each exit answers from, num_exits tensors of (n, width).

        On a frozen backbone in eval mode they are all that training a head needs.
        """
        pooled, features = [], images
        for e in range(self.num_exits):
            features = self.run_segment(e, features)
            pooled.append(self.pool(e, features))
        return pooled

    def freeze_backbone(self, *, keep_statistics: bool = True) -> None:
        """Stop training the backbone and its classifier.

        Args:
            keep_statistics: hold the backbone in eval mode whatever `train` is told, so that
                batch statistics and dropout stay still. The released training of DNF lets the
                statistics drift.
        """
        self.backbone.requires_grad_(False)
        self._frozen = keep_statistics
        self.train(self.training)

    def train(self, mode: bool = True) -> "MultiExit":
        """Set the mode; a frozen backbone stays in eval mode."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self


def with_heads(
    backbone: Staged,
    *,
    generator: torch.Generator | None = None,
    exits: Sequence[int] | None = None,
    hidden: int | None = None,
    stochastic: bool = False,
    relu: bool | None = None,
    layer_norm: bool | None = None,
) -> MultiExit:
    """Put new heads on a backbone, where it has places for them or after the stages in `exits`.

    Args:
        backbone: stays the caller's; it is not copied.
        generator: where the heads' weights come from; on the backbone's device. Without one
            the heads are outlines on the meta device.
        exits: 0-based stages, rising.
        hidden: as for `ExitHead`.
        stochastic: as for `ExitHead`.
        relu: as for `ExitHead`; as the backbone's kind of network has it if not given.
        layer_norm: as for `ExitHead`; as the backbone's kind of network has it if not given.

    Raises:
        ValueError: the exits are not rising stages of the backbone.
    """
    stages = tuple(backbone.head_stages if exits is None else exits)
    _check_stages(backbone, stages)
    style = backbone.head_style
    heads = [
        ExitHead(
            backbone.widths[stage],
            backbone.num_classes,
            generator=generator,
            hidden=hidden,
            stochastic=stochastic,
            relu=style.relu if relu is None else relu,
            layer_norm=style.layer_norm if layer_norm is None else layer_norm,
        )
        for stage in stages
    ]
    return MultiExit(backbone, heads, exits=stages)


def _normalise_channels(features: Tensor) -> Tensor:
    """Normalise every place over its channels, without weights."""
    if features.ndim != 4:
        return F.layer_norm(features, features.shape[-1:])
    places = features.permute(0, 2, 3, 1)  # (n, h, w, c)
    return F.layer_norm(places, places.shape[-1:]).permute(0, 3, 1, 2)


def _check_stages(backbone: Staged, stages: Sequence[int]) -> None:
    count = len(backbone.stages)
    rising = all(before < after for before, after in itertools.pairwise(stages))
    if not rising or any(not 0 <= stage < count for stage in stages):
        raise ValueError(
            f"expected rising stages out of 0 to {count - 1} of {backbone.architecture}, "
            f"got {tuple(stages)}"
        )


def _check_exits(backbone: Staged, heads: Sequence[ExitHead], stages: Sequence[int]) -> None:
    if len(heads) != len(stages):
        raise ValueError(f"expected one stage per head, got {len(stages)} for {len(heads)} heads")
    _check_stages(backbone, stages)
    for head, stage in zip(heads, stages, strict=True):
        if (head.width, head.num_classes) != (backbone.widths[stage], backbone.num_classes):
            raise ValueError(
                f"expected a head from {backbone.widths[stage]} channels to "
                f"{backbone.num_classes} classes after stage {stage}, "
                f"got one from {head.width} to {head.num_classes}"
            )
