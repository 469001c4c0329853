"""Sources of out-of-distribution images: noise, untrained generators, spoilt training images.

Every source draws from one passed generator, on its device.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from envs.data.images import ImageSet, bytes_to_unit
from envs.data.shapes import shapes_pool
from envs.data.strokes import strokes_pool
from envs.nets.generators import DfmeGenerator

Draw: TypeAlias = Callable[[int], Tensor]
"""Draws so many images, (n, c, h, w) float32 in [0, 1] on the generator's device."""


_MOST_COMBINED = 2000


@dataclass(frozen=True, eq=False)
class Material:
    """What sources draw from.

    Args:
        train: the victim's training images; some sources mix or shuffle them.
        generator: where all chance comes from, on the images' device.
        load_pool: gives a data set by name, at the victim's image shape.
    """

    train: ImageSet
    generator: torch.Generator
    # loaders of the match take options beyond the name
    load_pool: Callable[..., ImageSet] | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image drawn."""
        return self.train.image_shape

    def rand(self, *size: int) -> Tensor:
        """Draw uniform numbers in [0, 1)."""
        return torch.rand(size, generator=self.generator, device=self.generator.device)

    def randn(self, *size: int) -> Tensor:
        """Draw standard normal numbers."""
        return torch.randn(size, generator=self.generator, device=self.generator.device)

    def pick(self, images: ImageSet, count: int) -> Tensor:
        """Draw images of a set, with replacement."""
        index = torch.randint(
            len(images), (count,), generator=self.generator, device=self.generator.device
        )
        return images.images(index)


class RandomGenerators:
    """Draws from image generators that nobody has trained.

    Args:
        material: the chance and the image shape.
        every: batches that one set of weights serves.
        weight_std: as for `DfmeGenerator`.
    """

    def __init__(
        self, material: Material, *, every: int = 1, weight_std: float | None = None
    ) -> None:
        self._chance, self._every, self._served = material.generator, every, 0
        self._network = DfmeGenerator(
            material.image_shape, generator=material.generator, weight_std=weight_std
        )
        self._network.requires_grad_(False)

    @torch.no_grad()
    def __call__(self, count: int) -> Tensor:
        """Draw a batch; new weights first where their time is over."""
        if self._served and self._served % self._every == 0:
            self._network.reset(self._chance)
        self._served += 1
        # one image has no batch statistics, which this network normalises by
        latents = self._network.draw(max(count, 2), self._chance)
        images: Tensor = self._network(latents)
        return images[:count]


def uniform_noise(material: Material) -> Draw:
    """Draw every pixel uniformly."""
    return lambda count: material.rand(count, *material.image_shape)


def smooth_noise(material: Material) -> Draw:
    """Draw blurred noise of a random grain, stretched to a random part of [0, 1].

    Noise on grids from 2x2 up to the image's own is enlarged and summed with random weights, so
    that a batch holds everything from a gradient to fine grain.
    """
    channels, height, width = material.image_shape
    grids = [2**power for power in range(1, 9) if 2**power <= min(height, width)]

    def draw(count: int) -> Tensor:
        weights = -material.rand(count, len(grids)).clamp_min(1e-6).log()  # Dirichlet(1), unscaled
        total = torch.zeros((count, channels, height, width), device=weights.device)
        for column, side in enumerate(grids):
            grain = material.randn(count, channels, side, side)
            grown = F.interpolate(grain, (height, width), mode="bicubic", align_corners=False)
            total += weights[:, column].view(-1, 1, 1, 1) * grown
        return _stretched(total, material.rand(2, count))

    return draw


def shuffled_patches(material: Material, *, side: int | None = None) -> Draw:
    """Draw training images whose square patches have changed places.

    Args:
        material: holds the training images.
        side: of a patch, in pixels; the largest that divides both sides of the image and is at
            most a quarter of the shorter one, if not given.
    """
    channels, height, width = material.image_shape
    size = _patch_side(height, width) if side is None else side
    rows, columns = height // size, width // size

    def draw(count: int) -> Tensor:
        images = material.pick(material.train, count)
        patches = images.reshape(count, channels, rows, size, columns, size)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(count, rows * columns, -1)
        order = material.rand(count, rows * columns).argsort(1)
        patches = patches.gather(1, order[:, :, None].expand_as(patches))
        # (n, rows, columns, c, size, size) back to (n, c, h, w)
        patches = patches.reshape(count, rows, columns, channels, size, size)
        return patches.permute(0, 3, 1, 4, 2, 5).reshape(count, channels, height, width)

    return draw


def shuffled_pixels(material: Material) -> Draw:
    """Draw training images whose pixels have changed places: the histogram is all that stays."""
    return shuffled_patches(material, side=1)


def mixup_of_three(material: Material) -> Draw:
    """Draw convex mixtures of three training images, uniform over their triangle."""

    def draw(count: int) -> Tensor:
        parts = material.pick(material.train, 3 * count)
        weights = -material.rand(3, count).clamp_min(1e-6).log()
        weights = (weights / weights.sum(0)).view(3, count, 1, 1, 1)
        return (parts.view(3, count, *material.image_shape) * weights).sum(0)

    return draw


def principal_noise(material: Material) -> Draw:
    """Draw Gaussian noise with the mean and covariance of the training images, clipped.

    It has every pairwise correlation of the victim's own images and none of their meaning. A
    normal combination of centred images has their covariance; at most 2,000 of them are used.
    """
    own = material.pick(material.train, min(len(material.train), _MOST_COMBINED))
    centre = own.mean(0, keepdim=True)
    parts = (own - centre).flatten(1) / len(own) ** 0.5

    def draw(count: int) -> Tensor:
        drawn = material.randn(count, len(parts)) @ parts
        images: Tensor = centre + drawn.view(count, *material.image_shape)
        return images.clamp(0, 1)

    return draw


def spliced_halves(material: Material) -> Draw:
    """Draw training images whose right or lower half is another one's."""
    height, width = material.image_shape[1:]

    def draw(count: int) -> Tensor:
        first, second = material.pick(material.train, 2 * count).chunk(2)
        beside = material.rand(count, 1, 1, 1) < 0.5
        right = torch.arange(width, device=first.device) >= width // 2
        lower = (torch.arange(height, device=first.device) >= height // 2)[:, None]
        other = torch.where(beside, right, lower)  # (n, 1, h, w)
        return torch.where(other, second, first)

    return draw


def turned_images(material: Material) -> Draw:
    """Draw training images mirrored left to right or upside down, or turned by a quarter."""

    def draw(count: int) -> Tensor:
        images = material.pick(material.train, count)
        ways = [images.flip(3), images.flip(2)]
        if images.shape[2] == images.shape[3]:
            ways += [torch.rot90(images, 1, (2, 3)), torch.rot90(images, 3, (2, 3))]
        drawn = (material.rand(count) * len(ways)).long()
        return torch.stack(ways)[drawn, torch.arange(count, device=images.device)]

    return draw


def synthetic_shapes(material: Material) -> Draw:
    """Draw overlapping shapes of random colours, on a small canvas to be quick."""
    canvas = max(32, min(material.image_shape[1:]))

    def draw(count: int) -> Tensor:
        pixels = shapes_pool(
            count, material.image_shape, material.generator, canvas=canvas, shapes=12
        )
        return bytes_to_unit(pixels)

    return draw


def pen_strokes(material: Material) -> Draw:
    """Draw pen strokes, which look like writing and are none."""
    return lambda count: strokes_pool(count, material.image_shape, material.generator).float() / 255


# makers take the material and, some of them, options of their own
SOURCES: dict[str, Callable[[Material], Any]] = {
    "generator": RandomGenerators,
    "normal-generator": partial(RandomGenerators, weight_std=0.02),
    "uniform": uniform_noise,
    "smooth": smooth_noise,
    "pixel-shuffle": shuffled_pixels,
    "patch-shuffle": shuffled_patches,
    "mixup": mixup_of_three,
    "principal": principal_noise,
    "spliced": spliced_halves,
    "turned": turned_images,
    "shapes": synthetic_shapes,
    "strokes": pen_strokes,
}


def _stretched(images: Tensor, ends: Tensor) -> Tensor:
    """Map each image's own range to the interval between its two (2, n) random ends."""
    low = images.amin((1, 2, 3), keepdim=True)
    span = (images.amax((1, 2, 3), keepdim=True) - low).clamp_min(1e-6)
    first, second = ends.view(2, -1, 1, 1, 1)
    stretched: Tensor = first + (images - low) / span * (second - first)
    return stretched.clamp(0, 1)


def _patch_side(height: int, width: int) -> int:
    limit = max(1, min(height, width) // 4)
    return max(s for s in range(1, limit + 1) if height % s == 0 and width % s == 0)
