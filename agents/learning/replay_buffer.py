"""A memory of answers already paid for, to learn from them again."""

import torch
from torch import Tensor

from envs.data.images import bytes_to_unit, to_pixels


class Replay:
    """Keeps the latest images with their answers and gives some of them back at random.

    Images are kept as 8-bit pixels, a quarter of the memory: a million images of 32 pixels take
    3 GB. An answer so comes back with an image that differs by up to 1/510 in each value.

    Args:
        capacity: images kept at most; the oldest go first.
        image_shape: (channels, height, width).
        num_classes: K.
        device: where they are kept.
    """

    def __init__(
        self,
        capacity: int,
        image_shape: tuple[int, int, int],
        *,
        num_classes: int,
        device: torch.device,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"expected a capacity of at least 1, got {capacity}")
        self._pixels = torch.empty((capacity, *image_shape), dtype=torch.uint8, device=device)
        self._targets = torch.empty((capacity, num_classes), device=device)
        self._seen = 0

    def __len__(self) -> int:
        return min(self._seen, len(self._pixels))

    def add(self, images: Tensor, targets: Tensor) -> None:
        """Keep (n, c, h, w) images in [0, 1] with their (n, K) answers, n at most the capacity."""
        places = torch.arange(self._seen, self._seen + len(images), device=images.device)
        places = places % len(self._pixels)
        self._pixels[places] = to_pixels(images)
        self._targets[places] = targets.to(self._targets.dtype)
        self._seen += len(images)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw images and answers with replacement.

        Args:
            count: how many.
            generator: on the memory's device.

        Returns:
            (count, c, h, w) float32 in [0, 1] and (count, K) float32.

        Raises:
            ValueError: nothing was kept so far.
        """
        if not len(self):
            raise ValueError("expected some answers to draw from, got none so far")
        picked = torch.randint(len(self), (count,), generator=generator, device=generator.device)
        return bytes_to_unit(self._pixels[picked]), self._targets[picked]
