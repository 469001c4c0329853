"""Answers to images of a pool, bought once and trained on for many epochs."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from envs.data.images import ImageSet, bytes_to_unit
from envs.errors import BudgetExhausted, UnknownName
from envs.oracle import Oracle
from envs.training.evaluation import predict
from envs.training.loop import FitReport, Loss, fit
from envs.training.recipes import Recipe
from envs.types import harden_labels

__all__ = [
    "RECIPES",
    "Draws",
    "TransferSet",
    "balanced_accuracy",
    "bought",
    "branch",
    "macro_f1",
    "of_pool",
    "recipe_for",
    "trained",
]

# Spec of each: who published it. Halving every ten of thirty epochs is milestones of a third.
_HALVING = {"schedule": "steps", "milestones": (1 / 3, 2 / 3), "gamma": 0.5}
_PLAIN = {"momentum": 0.5, "nesterov": False, "weight_decay": 0.0}
_TABLE: dict[str, dict[str, Any]] = {  # Any: fields of `Recipe`, checked by it
    "knockoff": {"epochs": 100, "batch": 64, "learning_rate": 0.01, **_PLAIN,
                 "schedule": "steps", "milestones": (0.6,), "gamma": 0.1},
    "grad": {"epochs": 50, "batch": 128, "learning_rate": 0.1, "augment": "crop-flip"},
    "modelguard": {"epochs": 30, "batch": 128, "learning_rate": 0.1, **_PLAIN, **_HALVING},
    "dnf": {"epochs": 30, "batch": 32, "learning_rate": 0.01, **_PLAIN, **_HALVING},
    "small": {"epochs": 30, "batch": 128, "learning_rate": 0.05, "nesterov": False},
    "short32": {"epochs": 10, "batch": 32, "learning_rate": 0.05, "schedule": "one-cycle",
                "warmup": 0.25, "augment": "crop-flip", "amp": "bf16", "amp_on_cpu": True},
}  # fmt: skip
RECIPES: Mapping[str, Recipe] = {name: Recipe(**fields) for name, fields in _TABLE.items()}
"""How others train on a transfer set: the defaults of KnockoffNets, the adversaries of GRAD, of
ModelGuard and of DNF's data-based attack; one for 8 to 28 pixels; and a short one for 32x32, in
bfloat16, for a CPU that computes in it: one cycle of a high rate in small batches."""


def recipe_for(name: str | None, image_shape: tuple[int, int, int], **changes: Any) -> Recipe:
    """Return a recipe by name; by image size where none is named.

    Args:
        name: of `RECIPES`; None takes "small" below 30 pixels and "grad" from there.
        image_shape: (channels, height, width).
        **changes: values of the recipe; None leaves one alone.

    Raises:
        UnknownName: no such recipe.
    """
    if name is None:
        name = "grad" if min(image_shape[1:]) >= 30 else "small"
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    given = {key: value for key, value in changes.items() if value is not None}
    return RECIPES[name].with_changes(**given)


def branch(generator: torch.Generator) -> torch.Generator:
    """Return a stream of its own, seeded from another, on the same device."""
    seed = torch.randint(2**62, (), generator=generator, device=generator.device)
    return torch.Generator(device=generator.device).manual_seed(int(seed))


class Draws:
    """Draws images of a pool without replacement; when it is empty, all are there again.

    Args:
        size: images of the pool.
        generator: draws the order.
    """

    def __init__(self, size: int, generator: torch.Generator) -> None:
        self._size, self._generator = size, generator
        self._order = torch.empty(0, dtype=torch.int64, device=generator.device)

    def take(self, count: int) -> Tensor:
        """Return the (count,) indices of the next images."""
        while len(self._order) < count:
            fresh = torch.randperm(
                self._size, generator=self._generator, device=self._generator.device
            )
            self._order = torch.cat([self._order, fresh])
        taken, self._order = self._order[:count], self._order[count:]
        return taken


@dataclass(frozen=True, eq=False, slots=True)
class TransferSet:
    """Images with the answers that were bought for them.

    Args:
        pixels: (n, c, h, w) uint8.
        posteriors: (n, K) float32, rows sum to 1.
    """

    pixels: Tensor
    posteriors: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def __add__(self, other: "TransferSet") -> "TransferSet":
        return TransferSet(
            torch.cat([self.pixels, other.pixels]), torch.cat([self.posteriors, other.posteriors])
        )

    def first(self, count: int) -> "TransferSet":
        """Return the images bought first."""
        return TransferSet(self.pixels[:count], self.posteriors[:count])

    def after(self, count: int) -> "TransferSet":
        """Return all images but those bought first."""
        return TransferSet(self.pixels[count:], self.posteriors[count:])

    def hardened(self) -> "TransferSet":
        """Return the set with the one-hot of each answer's most likely label."""
        return TransferSet(self.pixels, harden_labels(self.posteriors))

    def train(
        self,
        clone: nn.Module,
        recipe: Recipe,
        generator: torch.Generator,
        *,
        loss: Loss | None = None,
        on_epoch: Callable[[int, float], None] | None = None,
    ) -> FitReport:
        """Train a clone on the set, in place, by the cross-entropy of the answers.

        One-hot answers cost exactly what labels would. A single image is shown twice: batch
        normalisation learns nothing from one. For `loss` and `on_epoch` see `fit`.
        """
        copies = 2 if len(self) == 1 else 1
        pixels, posteriors = self.pixels.repeat(copies, 1, 1, 1), self.posteriors.repeat(copies, 1)
        return fit(
            clone, pixels, posteriors, recipe, generator=generator, loss=loss, on_epoch=on_epoch
        )


def bought(oracle: Oracle, pixels: Tensor, *, request: int) -> TransferSet:
    """Buy the answers to some images.

    Args:
        oracle: charges one query an image.
        pixels: (n, c, h, w) uint8, n at least 1.
        request: images per request.

    Returns:
        The transfer set; answers that do not sum to 1 (rounded ones, the largest few alone) are
        normalised. Of the images before the first request that is refused, and of as many as the
        budget pays for: what accounts were charged for refusals is missing at the end.

    Raises:
        BudgetExhausted: not even the first request is answered; `Refused` if it is refused.
    """
    answers: list[Tensor] = []
    for part in pixels.split(request):
        part = part[: oracle.remaining or None]  # refusals that were charged leave less
        try:
            answers.append(oracle.query(bytes_to_unit(part)).posteriors.to(pixels.device))
        except BudgetExhausted:
            if not answers:
                raise
            break
    posteriors = torch.cat(answers).clamp_min(0)
    pixels = pixels[: len(posteriors)]
    return TransferSet(pixels, posteriors / posteriors.sum(1, keepdim=True).clamp_min(1e-12))


def trained(
    fresh: nn.Module, answers: TransferSet, recipe: Recipe, *, seed: int
) -> tuple[nn.Module, FitReport]:
    """Train a copy of a fresh clone on answers; the copy is in evaluation mode."""
    clone = copy.deepcopy(fresh)
    generator = torch.Generator(device=answers.pixels.device).manual_seed(seed)
    report = answers.train(clone, recipe, generator)
    return clone.eval(), report


def of_pool(pool: ImageSet, index: Tensor) -> Tensor:
    """Return the (n, c, h, w) uint8 pixels of some images of a pool."""
    return pool.pixels[index.to(pool.device)]


def balanced_accuracy(clone: nn.Module, held: TransferSet) -> float:
    """Measure agreement with the answers' labels, every label that occurs counting alike."""
    labels = held.posteriors.argmax(1)
    hits = (predict(clone, held.pixels).argmax(1) == labels).double()
    classes = held.posteriors.shape[1]
    counts = torch.bincount(labels, minlength=classes)
    right = torch.zeros(classes, dtype=torch.float64, device=hits.device)
    right = right.index_add(0, labels, hits)
    return float((right / counts.clamp_min(1)).sum() / (counts > 0).sum())


def macro_f1(clone: nn.Module, held: TransferSet) -> float:
    """Measure the mean F1 of a clone over the labels that occur in the answers."""
    labels, guesses = held.posteriors.argmax(1), predict(clone, held.pixels).argmax(1)
    classes = held.posteriors.shape[1]
    right = torch.bincount(labels[labels == guesses], minlength=classes).double()
    counts = torch.bincount(labels, minlength=classes)
    asked = counts + torch.bincount(guesses, minlength=classes)
    return float((2 * right / asked.clamp_min(1))[counts > 0].mean())
