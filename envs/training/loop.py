"""One training loop for victims and clones."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from envs.data.augment import augmentation
from envs.data.images import bytes_to_unit
from envs.errors import ArenaError
from envs.training.evaluation import flags_restored
from envs.training.linear_probe import without_body
from envs.training.optimisers import RateSchedule, make_optimiser
from envs.training.recipes import Recipe

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""Maps (network, images, targets) of a batch to a scalar; it runs the network itself."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitReport:
    """What a training leaves behind beside the weights.

    Args:
        train_loss: mean loss per image of each epoch.
        seconds: wall time of the whole fit.
        steps: optimiser steps taken.
    """

    train_loss: list[float]
    seconds: float
    steps: int


def cross_entropy(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Measure the mean cross-entropy against labels or against posteriors.

    Both go through one expression, so that a one-hot posterior costs exactly what its label
    does, and a hard-label victim and a soft-label victim with one-hot answers train one clone.

    Args:
        logits: (n, K) float.
        targets: (n,) int64 labels, or (n, K) float with rows that sum to 1.
        label_smoothing: share of each target spread evenly over the classes.

    Returns:
        A scalar in nats.
    """
    logs = F.log_softmax(logits.float(), 1)
    if targets.ndim == 1:
        costs = -logs.gather(1, targets.unsqueeze(1)).squeeze(1)
    else:
        costs = -(logs * targets).sum(1)
    if label_smoothing > 0:
        costs = (1 - label_smoothing) * costs - label_smoothing * logs.mean(1)
    return costs.mean()


def fit(
    network: nn.Module,
    images: Tensor,
    targets: Tensor,
    recipe: Recipe,
    *,
    generator: torch.Generator,
    loss: Loss | None = None,
    frozen: Sequence[nn.Module] = (),
    on_epoch: Callable[[int, float], None] | None = None,
) -> FitReport:
    """Train a network on images that lie in device memory.

    Order, augmentation and dropout are drawn from `generator` alone, and the global random state
    is left as it was. The host waits for the device once an epoch. On CUDA the network's weights
    are laid out channels-last. Of a network with a frozen body the classifier alone is trained, on
    what the body makes of the images, which is computed once where nothing augments them.

    Args:
        network: maps (m, c, h, w) float32 in [0, 1] to (m, K) logits, on the images' device.
        images: (n, c, h, w) uint8, or float32 in [0, 1].
        targets: (n,) int64 labels, or (n, K) float posteriors.
        recipe: how to train.
        generator: on the images' device.
        loss: maps (network, images, targets) of a batch to a scalar; the cross-entropy of the
            network's logits where none is given.
        frozen: parts that stay as they are: no gradient, and batch norms keep their statistics.
        on_epoch: called with (epoch from 1, mean loss) after each epoch; it may evaluate.

    Returns:
        Losses and time. The network's training flags are as they were before.

    Raises:
        ArenaError: the loss became infinite or NaN; says in which epoch and what to lower.
        ValueError: no images, or images, targets and generator do not fit together.
    """
    _check_inputs(images, targets, generator)
    started = time.perf_counter()
    if loss is None and not frozen:
        network, images = without_body(network, images, recipe.augment)
    cuts = _cuts(len(images), recipe.batch)
    losses: list[float] = []
    if images.device.type == "cuda":
        network.to(memory_format=torch.channels_last)
    with _training(network, frozen), _forked_randomness(images.device, generator):
        trainer = _Trainer(network, recipe, recipe.epochs * len(cuts), loss=loss)
        for epoch in range(1, recipe.epochs + 1):
            losses.append(_epoch(trainer, images, targets, cuts=cuts, generator=generator))
            _check_loss(losses[-1], epoch, recipe)
            _log.debug("epoch %d of %d: loss %.4f", epoch, recipe.epochs, losses[-1])
            if on_epoch is not None:
                on_epoch(epoch, losses[-1])
    return FitReport(losses, time.perf_counter() - started, recipe.epochs * len(cuts))


def steps_of(count: int, recipe: Recipe) -> int:
    """Return how many optimiser steps `fit` takes on so many images."""
    return recipe.epochs * len(_cuts(count, recipe.batch))


class _Trainer:
    """Takes optimiser steps: precision, clipping and schedule of one recipe."""

    def __init__(
        self, network: nn.Module, recipe: Recipe, steps: int, *, loss: Loss | None
    ) -> None:
        self._network, self._recipe = network, recipe
        self._loss = loss if loss is not None else self._default_loss
        self._params = [p for p in network.parameters() if p.requires_grad]
        if not self._params:
            raise ValueError("the network has no parameter to train")
        self._device = self._params[0].device.type
        self._optimiser = make_optimiser(self._params, recipe)
        self._schedule = RateSchedule(self._optimiser, recipe, steps)
        scaling = recipe.amp == "fp16" and self._device != "cpu"
        self._scaler = torch.amp.GradScaler(self._device, enabled=scaling)
        self.augment = augmentation(recipe.augment)

    def step(self, images: Tensor, targets: Tensor) -> Tensor:
        """Take one step; return the loss, a detached scalar on the device."""
        self._optimiser.zero_grad(set_to_none=True)
        with self._autocast():
            value = self._loss(self._network, images, targets)
        self._scaler.scale(value).backward()
        if self._recipe.clip_norm > 0:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self._params, self._recipe.clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._schedule.step()
        return value.detach()

    def _default_loss(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(network(images), targets, self._recipe.label_smoothing)

    def _autocast(self) -> AbstractContextManager[object]:
        as_it_is = self._device == "cpu" and not self._recipe.amp_on_cpu
        if self._recipe.amp == "none" or as_it_is:
            return nullcontext()
        dtype = torch.bfloat16 if self._recipe.amp == "bf16" else torch.float16
        return torch.autocast(self._device, dtype=dtype)


def _epoch(
    trainer: _Trainer,
    images: Tensor,
    targets: Tensor,
    *,
    cuts: Sequence[int],
    generator: torch.Generator,
) -> float:
    """Show every image once; return the mean loss per image."""
    order = torch.randperm(len(images), generator=generator, device=images.device)
    total = torch.zeros((), dtype=torch.float64, device=images.device)
    four = images.device.type == "cuda" and images.ndim == 4
    layout = torch.channels_last if four else torch.preserve_format
    for index in torch.split(order, list(cuts)):
        batch = trainer.augment(bytes_to_unit(images[index]), generator).to(memory_format=layout)
        total += trainer.step(batch, targets[index]) * len(index)
    return total.item() / len(images)


def _cuts(count: int, batch: int) -> list[int]:
    """Cut `count` images into batches; a single image left over joins the batch before it.

    Batch norm cannot train on one image of one pixel.
    """
    sizes = [batch] * (count // batch)
    rest = count % batch
    if rest == 1 and sizes and batch > 1:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def _check_inputs(images: Tensor, targets: Tensor, generator: torch.Generator) -> None:
    if len(images) == 0 or len(images) != len(targets):
        raise ValueError(
            f"expected images and as many targets, got {len(images)} and {len(targets)}"
        )
    if not images.device.type == targets.device.type == generator.device.type:
        raise ValueError(
            f"expected images, targets and generator on one device, got {images.device}, "
            f"{targets.device} and {generator.device}"
        )


def _check_loss(loss: float, epoch: int, recipe: Recipe) -> None:
    if not torch.isfinite(torch.tensor(loss)):
        clip = "set clip_norm" if recipe.clip_norm == 0 else f"clip_norm {recipe.clip_norm}"
        raise ArenaError(
            f"the training loss became {loss} in epoch {epoch} of {recipe.epochs}; "
            f"lower learning_rate ({recipe.learning_rate}) or {clip}"
        )


@contextmanager
def _training(network: nn.Module, frozen: Sequence[nn.Module]) -> Iterator[None]:
    """Put the network into training mode but for its frozen parts; restore all flags after."""
    parameters = {id(p): p for part in frozen for p in part.parameters()}.values()
    graded = [(p, p.requires_grad) for p in parameters]
    with flags_restored(network):
        network.train()
        for part in frozen:
            part.eval()
        for p, _ in graded:
            p.requires_grad_(False)
        try:
            yield
        finally:
            for p, flag in graded:
                p.requires_grad_(flag)


@contextmanager
def _forked_randomness(device: torch.device, generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global generators from `generator` for a while, for dropout; then restore them.

    Dropout layers take no generator; they always draw from the global one of their device.
    """
    drawn = torch.randint(2**62, (), generator=generator, device=generator.device)
    on_accelerator = device.type != "cpu"
    with torch.random.fork_rng(
        [device] if on_accelerator else [], device_type=device.type if on_accelerator else "cuda"
    ):
        torch.default_generator.manual_seed(int(drawn))
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(drawn))
        yield
