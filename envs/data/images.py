"""A labelled set of images as one uint8 tensor in device memory.

There is no loader: a set of this field fits into the memory of its device, and gathering a
batch there is faster than anything that crosses the bus.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_CHUNK = 4096  # images converted at once where a whole set is measured or hashed


def bytes_to_unit(pixels: Tensor) -> Tensor:
    """Turn uint8 pixels into float32 in [0, 1]; a float tensor only gets the dtype float32."""
    if pixels.dtype == torch.uint8:
        return pixels.to(torch.float32) / 255
    return pixels.to(torch.float32)


def to_pixels(images: Tensor) -> Tensor:
    """Round float images in [0, 1] to uint8; the inverse of `bytes_to_unit` on 8-bit images."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True, slots=True, eq=False)
class ImageSet:
    """Images with labels, all in the memory of one device.

    Args:
        pixels: (n, c, h, w) uint8.
        labels: (n,) int64 in 0..num_classes-1, on the same device. A pool that nobody labelled
            has zeros.
        num_classes: classes of the labels.
        name: what the set is called in messages and logs.
        classes: names of the classes, `num_classes` of them.

    Raises:
        ValueError: shapes, dtypes or the number of class names do not fit together.
    """

    pixels: Tensor
    labels: Tensor
    num_classes: int
    name: str
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != torch.uint8:
            raise ValueError(
                f"expected pixels (n, c, h, w) uint8, got {tuple(self.pixels.shape)} "
                f"{self.pixels.dtype}"
            )
        if self.labels.shape != self.pixels.shape[:1] or self.labels.dtype != torch.int64:
            raise ValueError(
                f"expected {len(self.pixels)} labels int64, got {tuple(self.labels.shape)} "
                f"{self.labels.dtype}"
            )
        # on an accelerator the check would wait for the device; sets are read on the CPU
        if self.labels.device.type == "cpu" and len(self.labels):
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"labels from {low} to {high} in {self.num_classes} classes")
        if len(self.classes) != self.num_classes:
            raise ValueError(f"{self.num_classes} classes but {len(self.classes)} class names")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """The device that holds the images."""
        return self.pixels.device

    def images(self, index: Tensor | slice | None = None) -> Tensor:
        """Return images as (n, c, h, w) float32 in [0, 1]; all of them where no index is given."""
        return bytes_to_unit(self.pixels if index is None else self.pixels[index])

    def to(self, device: torch.device | str) -> "ImageSet":
        """Return the set in the memory of `device`."""
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device))

    def copy(self) -> "ImageSet":
        """Return the set in memory of its own: who gets it may write into it."""
        return replace(self, pixels=self.pixels.clone(), labels=self.labels.clone())

    def select(self, index: Tensor | slice) -> "ImageSet":
        """Return the images at `index`, in its order; an index tensor may live on any device."""
        where = index.to(self.device) if isinstance(index, Tensor) else index
        return replace(self, pixels=self.pixels[where], labels=self.labels[where])

    def batches(
        self, size: int, generator: torch.Generator | None = None, *, drop_last: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, as (images (m, c, h, w) float32 in [0, 1], labels (m,) int64).

        Args:
            size: images per batch; the last one may be smaller.
            generator: draws the order, on the generator's device. Without it the order is the
                set's own.
            drop_last: leave out a last batch that is smaller than `size`.
        """
        end = len(self) - len(self) % size if drop_last else len(self)
        if generator is None:
            for start in range(0, end, size):
                stop = min(start + size, end)
                yield self.images(slice(start, stop)), self.labels[start:stop]
            return
        order = torch.randperm(len(self), generator=generator, device=generator.device)
        for index in torch.split(order.to(self.device)[:end], size):
            yield self.images(index), self.labels[index]

    def mean_std(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Measure mean and standard deviation of each channel, on the scale [0, 1].

        The sums are integers, so that every device finds the same numbers. A constant channel
        gets the deviation 1/255, because a victim divides by it.

        Raises:
            ValueError: the set is empty.
        """
        count = self.pixels.numel() // max(self.image_shape[0], 1)
        if count == 0:
            raise ValueError(f"'{self.name}' holds no image to measure")
        total = torch.zeros(self.image_shape[0], dtype=torch.int64, device=self.device)
        squares = torch.zeros_like(total)
        for chunk in torch.split(self.pixels, _CHUNK):
            total += chunk.sum((0, 2, 3), dtype=torch.int64)
            squares += chunk.to(torch.int32).square().sum((0, 2, 3), dtype=torch.int64)
        sums = zip(total.tolist(), squares.tolist(), strict=True)
        # n * sum(x^2) - sum(x)^2 stays an exact Python integer
        moments = [(s / count, (count * q - s * s) ** 0.5 / count) for s, q in sums]
        mean = tuple(m / 255 for m, _ in moments)
        return mean, tuple(max(d, 1.0) / 255 for _, d in moments)


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """A data set as the game uses it: five parts that share no image.

    `envs.data.splits.make_splits` makes one.

    Args:
        train: what the victim learns from.
        validation: what thresholds and temperatures are fitted on.
        benign: what benign users ask. Defenders see it while they serve.
        checkpoint: what clones are measured on along the budget. No player gets it.
        test: what the final clone and the service are scored on. No player gets it.
        mean: per channel, on the scale [0, 1]; what a victim subtracts.
        std: per channel; what it divides by.
        name: the data set's name.
        fingerprint: 16 hexadecimal digits over all pixels and labels, for cache keys.
    """

    train: ImageSet
    validation: ImageSet
    benign: ImageSet
    checkpoint: ImageSet
    test: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    fingerprint: str

    @property
    def num_classes(self) -> int:
        """Classes of the task, K."""
        return self.train.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return self.train.image_shape

    @property
    def parts(self) -> dict[str, ImageSet]:
        """The parts by name, in their order."""
        return {name: getattr(self, name) for name in PARTS}

    @property
    def held_out(self) -> ImageSet:
        """All images for testing, in one set: benign users', checkpoints', final score's."""
        return joined([self.benign, self.checkpoint, self.test])

    def of_defender(self) -> "Splits":
        """Return the splits with training and validation images alone: what a defender owns.

        They are copies: what a player writes into them is no other episode's data.
        """
        return replace(
            self,
            train=self.train.copy(),
            validation=self.validation.copy(),
            benign=_emptied(self.benign),
            checkpoint=_emptied(self.checkpoint),
            test=_emptied(self.test),
        )

    def to(self, device: torch.device | str) -> "Splits":
        """Return all parts in the memory of `device`."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            benign=self.benign.to(device),
            checkpoint=self.checkpoint.to(device),
            test=self.test.to(device),
        )


SCORED = ("checkpoint", "test")
"""Parts on which clones are scored: no player gets an image of them."""

PARTS = ("train", "validation", "benign", *SCORED)
"""Every part of `Splits`."""

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, on the scale [0, 1]."""


def joined(parts: Sequence[ImageSet]) -> ImageSet:
    """Join sets of one task into one, called as the first is."""
    return replace(
        parts[0],
        pixels=torch.cat([part.pixels for part in parts]),
        labels=torch.cat([part.labels for part in parts]),
    )


def _emptied(images: ImageSet) -> ImageSet:
    """Return a set of none of the images; its memory is its own, as a slice leads to them all."""
    return replace(
        images,
        pixels=images.pixels.new_empty((0, *images.pixels.shape[1:])),
        labels=images.labels.new_empty(0),
    )


def fingerprint(*parts: ImageSet) -> str:
    """Digest pixels, labels and shapes of some sets to 16 hexadecimal digits (SHA-256)."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr((tuple(part.pixels.shape), part.num_classes)).encode())
        for chunk in torch.split(part.pixels, _CHUNK):
            digest.update(chunk.contiguous().cpu().numpy().data)
        digest.update(part.labels.cpu().numpy().astype("<i8").data)
    return digest.hexdigest()[:16]
