"""Trains the exits of a network: one step, and the loop around it.

On a frozen backbone an exit depends on nothing but the pooled features of its stage, so those of
the training images are computed once; the heads of a small network then train in seconds.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.data.augment import augmentation
from envs.data.images import ImageSet
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged
from envs.training.objective import Objective
from envs.training.ood_sources import Draw
from envs.training.probes import thumbnails

Backbone = Literal["frozen", "drift", "last", "all"]
"""What of the backbone learns: nothing; nothing but its batch statistics; its last stage; all."""

OODSchedule = Literal["every", "every-2nd", "epoch-0"]
"""In which epochs OOD images are trained on."""

OODLabel = Literal["victim", "exit1"]
"""Who labels OOD images: the victim before any training, or the first exit as it stands."""

BACKBONE_RATE = 1e-3
_CHUNK = 1024
_LEAST_SPREAD = 1e-3  # of a feature, so that a dead one is not blown up


@dataclass(frozen=True, slots=True)
class ExitRecipe:
    """How exits are trained.

    Args:
        epochs: passes over the training images.
        learning_rate: of the heads; the backbone's is a fixed 1e-3 where it learns.
        batch: in-distribution images per step.
        ood_batch: OOD images per step.
        backbone: what of the backbone learns.
        ood_schedule: in which epochs OOD images are used.
        ood_label: who labels them.
        augment: name of an augmentation of the training images.
        cosine: let the learning rate fall to 0 along half a cosine.
        clip: largest norm of a step's gradient; 0 leaves it alone.
        standardise: train heads on features of zero mean and unit variance, and fold that into
            their first layer afterwards. Served heads have the same form either way.
        weight_decay: L2 penalty on what learns.
    """

    epochs: int = 20
    learning_rate: float = 0.1
    batch: int = 256
    ood_batch: int = 128
    backbone: Backbone = "frozen"
    ood_schedule: OODSchedule = "every"
    ood_label: OODLabel = "victim"
    augment: str = "none"
    cosine: bool = True
    clip: float = 5.0
    standardise: bool = True
    weight_decay: float = 0.0

    def uses_ood(self, epoch: int) -> bool:
        """Tell whether OOD images are trained on in this epoch, counted from 0."""
        if self.ood_schedule == "epoch-0":
            return epoch == 0
        return self.ood_schedule == "every" or epoch % 2 == 0


class _Batch(NamedTuple):
    """In-distribution images of a step; `images` only where features are not cached."""

    pooled: Sequence[Tensor]
    labels: Tensor
    images: Tensor | None


def train_exits(
    network: MultiExit,
    objective: Objective,
    recipe: ExitRecipe,
    *,
    data: ImageSet,
    draw: Draw | None,
    order: torch.Generator,
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Train the heads of a network, in place; the backbone as far as the recipe says.

    Args:
        network: with heads, on the data's device; left in evaluation mode.
        objective: built for this network.
        recipe: how to train.
        data: in-distribution training images.
        draw: a source of OOD images, or None to do without.
        order: draws the order and the augmentation of the training images.
        report: takes a line now and then.
    """
    trainer = _Trainer(network, objective, recipe, data=data, order=order)
    for epoch in range(recipe.epochs):
        ood = draw if draw is not None and recipe.uses_ood(epoch) else None
        total = torch.zeros((), device=data.device)
        steps = 0
        for batch in trainer.batches():
            total += trainer.step(batch, ood)
            steps += 1
        if (epoch + 1) % max(1, recipe.epochs // 4) == 0:
            report(f"exits: epoch {epoch + 1}/{recipe.epochs}, loss {float(total) / steps:.3f}")
    trainer.finish()


class _Trainer:
    def __init__(
        self,
        network: MultiExit,
        objective: Objective,
        recipe: ExitRecipe,
        *,
        data: ImageSet,
        order: torch.Generator,
    ) -> None:
        self._network, self._objective, self._recipe = network, objective, recipe
        self._data, self._order = data, order
        self._learns = recipe.backbone in ("last", "all")
        # a frozen backbone is its own victim; a moving one needs a copy of what it was
        moves = recipe.backbone != "frozen"
        self._victim: Staged | None = copy.deepcopy(network.backbone).eval() if moves else None
        self._scales = self._measure_scales() if recipe.standardise else None
        self._cache = self._freeze()
        self._parameters = self._trained()
        self._optimiser, self._schedule = self._make_optimiser()

    def _freeze(self) -> list[Tensor] | None:
        """Set what may learn; returns the features of all training images where nothing can move.

        Batch statistics move in "drift" alone: OOD batches would spoil them.
        """
        network, kind = self._network, self._recipe.backbone
        network.freeze_backbone(keep_statistics=kind != "drift")
        if self._learns:
            body = network.backbone
            moving = (body,) if kind == "all" else (body.stages[-1], body.neck, body.classifier)
            for part in moving:
                part.requires_grad_(True)
        network.train()
        if kind == "frozen" and self._recipe.augment == "none":
            return self._scaled(pooled_features(network, self._data))
        return None

    def _measure_scales(self) -> list[tuple[Tensor, Tensor]]:
        """Measure mean and deviation of each head's features over the training images."""
        self._network.eval()
        pooled = pooled_features(self._network, self._data)[:-1]
        return [(part.mean(0), part.std(0).clamp_min(_LEAST_SPREAD)) for part in pooled]

    def _scaled(self, pooled: Sequence[Tensor]) -> list[Tensor]:
        """Standardise what the heads read; the last exit reads it as it is."""
        if self._scales is None:
            return list(pooled)
        heads = zip(pooled, self._scales, strict=False)
        return [*((part - mean) / spread for part, (mean, spread) in heads), pooled[-1]]

    @torch.no_grad()
    def finish(self) -> None:
        """Fold the standardisation into the first weights that each head applies."""
        for e, (mean, spread) in enumerate(self._scales or ()):
            self._network.head(e).absorb_standardisation(mean, spread)
        self._network.eval()

    def _trained(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return what is trained: heads and probes, and what moves of the backbone."""
        heads = [*self._network.heads.parameters(), *self._objective.extra_parameters()]
        return heads, [p for p in self._network.backbone.parameters() if p.requires_grad]

    def _make_optimiser(
        self,
    ) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        recipe, (heads, body) = self._recipe, self._parameters
        groups = [{"params": heads, "lr": recipe.learning_rate}]
        if body:
            groups.append({"params": body, "lr": BACKBONE_RATE})
        optimiser = torch.optim.SGD(groups, momentum=0.9, weight_decay=recipe.weight_decay)
        steps = max(1, recipe.epochs * -(-len(self._data) // recipe.batch))
        if recipe.cosine:
            return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        return optimiser, torch.optim.lr_scheduler.ConstantLR(optimiser, 1.0)

    def batches(self) -> Iterator[_Batch]:
        """Yield every training image once, in a new order."""
        if self._cache is None:
            change = augmentation(self._recipe.augment)
            for images, labels in self._data.batches(self._recipe.batch, self._order):
                if len(images) == 1 and self._recipe.backbone == "drift":
                    continue  # one image has no batch statistics
                changed = change(images, self._order)
                yield _Batch(self._features(changed), labels, changed)
            return
        shuffled = torch.randperm(
            len(self._data), generator=self._order, device=self._order.device
        ).to(self._data.device)
        for index in shuffled.split(self._recipe.batch):
            yield _Batch([part[index] for part in self._cache], self._data.labels[index], None)

    def step(self, batch: _Batch, ood: Draw | None) -> Tensor:
        """Take one step; returns its loss, a 0-d tensor on the device."""
        loss = self._objective.id_loss(batch.pooled, batch.labels)
        if self._learns and batch.images is not None:
            loss = loss + self._distillation(batch)
        if ood is not None:
            loss = loss + self._ood_loss(ood(self._recipe.ood_batch))
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self._recipe.clip:
            nn.utils.clip_grad_norm_(
                [*self._parameters[0], *self._parameters[1]], self._recipe.clip
            )
        self._optimiser.step()
        self._schedule.step()
        return loss.detach()

    def _ood_loss(self, images: Tensor) -> Tensor:
        pooled = self._features(images)
        with torch.no_grad():
            if self._recipe.ood_label == "exit1":
                labels = self._network.answer(0, pooled[0]).argmax(1)
            elif self._victim is not None:
                labels = self._victim(images).argmax(1)
            else:
                labels = self._network.answer(len(pooled) - 1, pooled[-1]).argmax(1)
        return self._objective.ood_loss(pooled, labels, thumbnails(images))

    def _features(self, images: Tensor) -> list[Tensor]:
        with torch.set_grad_enabled(self._learns):
            return self._scaled(self._network.features(images))

    def _distillation(self, batch: _Batch) -> Tensor:
        """Return KL(victim || final exit) in nats, so that the last answer stays what it was."""
        assert self._victim is not None
        assert batch.images is not None
        with torch.no_grad():
            before = self._victim(batch.images).log_softmax(1)
        now = self._network.answer(len(batch.pooled) - 1, batch.pooled[-1]).log_softmax(1)
        return F.kl_div(now, before, reduction="batchmean", log_target=True)


@torch.no_grad()
def pooled_features(network: MultiExit, data: ImageSet) -> list[Tensor]:
    """Return what each exit answers from for a whole set, one (n, width) tensor per exit."""
    parts = [network.features(images) for images, _ in data.batches(_CHUNK)]
    return [torch.cat(column) for column in zip(*parts, strict=True)]
