"""The values exchanged between the game and its players."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from envs.errors import NotGranted, QueryError
from envs.plain_tensors import plain_within, without_overrides

Labels = Literal["soft", "hard"]
LatencyMode = Literal["none", "virtual", "wall"]
AccountPolicy = Literal["one", "round-robin", "blocks", "by-similarity"]
"""Which account asks for an image where the attacker names none; see `envs.game.accounts`."""
Refusals = Literal["charged", "free"]
"""Whether a request that is refused is charged as if it were answered."""


@dataclass(frozen=True, slots=True)
class ThreatModel:
    """What the attacker may ask, and what an answer shows.

    Args:
        num_classes: classes of the victim, K.
        image_shape: (channels, height, width) of a query.
        budget: images that may be asked in the whole episode.
        labels: "soft" serves posteriors, "hard" their one-hot argmax.
        latency_visible: whether the attacker sees the seconds each answer took.
        accounts: accounts that the attacker may ask from.
        account_budget: images that each of them may ask; the whole budget if absent.
        account_policy: which account asks for an image where the attacker names none.
        refused: whether a refused request is charged.
    """

    num_classes: int
    image_shape: tuple[int, int, int]
    budget: int
    labels: Labels = "soft"
    latency_visible: bool = False
    accounts: int = 1
    account_budget: int | None = None
    account_policy: AccountPolicy = "one"
    refused: Refusals = "charged"


class Response:
    """What the oracle answers to one batch.

    Attributes:
        posteriors: (n, num_classes) float32, rows sum to 1; one-hot where only labels are granted.
    """

    __slots__ = ("_latency", "posteriors")

    def __init__(self, posteriors: Tensor, latency: Tensor | None = None) -> None:
        self.posteriors = posteriors
        self._latency = latency

    @property
    def latency(self) -> Tensor:
        """Seconds each answer took, (n,) float64; NotGranted where the threat model hides it."""
        if self._latency is None:
            raise NotGranted(
                "this episode shows no latency; set threat.latency to 'virtual' or 'wall'"
            )
        return self._latency


def harden_labels(posteriors: Tensor) -> Tensor:
    """Turn (n, K) posteriors into one-hot float32 rows of their argmax; ties go to the lowest."""
    labels = posteriors.argmax(1, keepdim=True)
    return torch.zeros_like(posteriors, dtype=torch.float32).scatter_(1, labels, 1.0)


def check_images(images: object, shape: tuple[int, int, int]) -> Tensor:
    """Return the images as a plain, detached (n, c, h, w) float32 tensor, or refuse them.

    Shape and dtype are checked here, as the memory has them, whatever a subclass of Tensor says.
    Values are checked by `faulty_values`, because on an accelerator that waits for the device.

    Raises:
        QueryError: no dense tensor, another shape or dtype, or an empty batch.
    """
    with without_overrides():
        return check_within(images, shape)


def check_within(images: object, shape: tuple[int, int, int]) -> Tensor:
    """Do as `check_images`, for callers that are within `without_overrides`."""
    try:
        plain = plain_within(images)
    except TypeError as error:
        raise QueryError(f"expected a torch.Tensor of images, got {error}") from error
    size = plain.shape
    if len(size) != 4 or size[1:] != shape:
        raise QueryError(f"expected images of shape (n, {shape[0]}, {shape[1]}, {shape[2]}), "
                         f"got {tuple(size)}")  # fmt: skip
    if plain.dtype != torch.float32:
        raise QueryError(f"expected float32 images in [0, 1], got {plain.dtype}")
    if size[0] == 0:
        raise QueryError("expected at least one image, got an empty batch")
    return plain


def faulty_values(images: Tensor) -> Tensor:
    """Tell whether a value is outside [0, 1] or NaN, as a 0-d bool tensor on their device."""
    low, high = images.aminmax()  # NaN if any value is
    return ~((low >= 0) & (high <= 1))


VALUE_FAULT = "expected image values in [0, 1], got a value outside it, NaN or infinity"
