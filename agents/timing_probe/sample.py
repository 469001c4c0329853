"""Holds what a clock showed of some images."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from agents.timing_probe.kmeans import Floats, Ints


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """Timed answers to distinct images.

    Attributes:
        images: (n, c, h, w) as they were asked.
        posteriors: (n, K), the first answer to each.
        logs: (n, repeats) natural logarithms of the seconds.
        positions: (n, repeats) when each was asked, counted in queries.
    """

    images: Tensor
    posteriors: Tensor
    logs: Floats
    positions: Floats

    def __len__(self) -> int:
        return len(self.images)

    @property
    def repeats(self) -> int:
        """How often each image was asked."""
        return int(self.logs.shape[1])

    def and_repeats(self, other: "Sample") -> "Sample":
        """Add more repeats of the same images."""
        return Sample(
            self.images,
            self.posteriors,
            np.concatenate([self.logs, other.logs], 1),
            np.concatenate([self.positions, other.positions], 1),
        )

    def and_images(self, other: "Sample") -> "Sample":
        """Add other images that were asked equally often."""
        return Sample(
            torch.cat([self.images, other.images]),
            torch.cat([self.posteriors, other.posteriors]),
            np.concatenate([self.logs, other.logs]),
            np.concatenate([self.positions, other.positions]),
        )

    def first(self, repeats: int) -> "Sample":
        """Return all images with their first repeats."""
        return replace(self, logs=self.logs[:, :repeats], positions=self.positions[:, :repeats])

    def pick(self, index: Ints) -> "Sample":
        """Return some of the images, with all their repeats."""
        where = torch.from_numpy(index).to(self.images.device)
        return Sample(
            self.images[where], self.posteriors[where], self.logs[index], self.positions[index]
        )
