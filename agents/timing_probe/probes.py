"""Draws the images a probe of the exits asks: far from the data, near to it, and in between."""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.base import Kit
from agents.learning.generators import Synthesiser
from envs.data.images import bytes_to_unit, to_pixels
from envs.data.shapes import shapes_pool
from envs.errors import ScenarioError

_STEPS = 16  # images on a path between noise and a natural image
_CHUNK = 256  # images a generator makes at once


class ProbeImages:
    """Draws probes: a third noise, a third surrogate images, a third paths between the two.

    A path crosses every threshold on its way and so finds exits that few images leave at. Half
    of the noise comes from an untrained generator, where one fits the image size. Where no pool
    is lent, or all of it has been asked, drawings of shapes stand in for surrogate images; where
    those do not fit either, smooth noise.

    Args:
        image_shape: (channels, height, width).
        kit: lends the generator, the device and perhaps a pool.
    """

    def __init__(self, image_shape: tuple[int, int, int], kit: Kit) -> None:
        self._shape, self._kit = image_shape, kit
        self._generator: Synthesiser | None = None
        # a side that cannot be reached by doubling leaves uniform noise alone
        with contextlib.suppress(ScenarioError):
            # never trained, so that its rate is without effect
            self._generator = Synthesiser.fresh(image_shape, rate=1.0, generator=kit.generator)
        self._unasked = self._shuffled(0 if kit.surrogate_pool is None else len(kit.pool))

    def reference(self) -> Tensor:
        """Return the (1, c, h, w) image by which the clock is set: plain grey."""
        return torch.full((1, *self._shape), 0.5, device=self._kit.device)

    def draw(self, count: int) -> Tensor:
        """Return (count, c, h, w) different images of 8-bit values, in random order."""
        on_paths = count - 2 * (count // 3)
        paths = -(-on_paths // _STEPS)
        natural, noise = self._natural(paths + count // 3), self._noise(paths + count // 3)
        steps = (torch.arange(_STEPS, device=self._kit.device) + 0.5) / _STEPS
        mix = steps.view(1, -1, 1, 1, 1)
        crossing = (1 - mix) * noise[:paths, None] + mix * natural[:paths, None]
        images = torch.cat([crossing.flatten(0, 1)[:on_paths], natural[paths:], noise[paths:]])
        return bytes_to_unit(to_pixels(images[self._shuffled(count)]))

    def _noise(self, count: int) -> Tensor:
        images = self._rand(count, *self._shape)
        if self._generator is None:
            return images
        index = torch.arange(0, count, 2, device=self._kit.device)  # every second one
        for part in torch.split(index, _CHUNK):
            # normalisation over a batch of one has no spread, so that a generator needs two
            images[part] = self._generator.images(max(2, len(part)))[: len(part)]
        return images

    def _natural(self, count: int) -> Tensor:
        taken, self._unasked = self._unasked[:count], self._unasked[count:]
        images = [self._kit.pool.images(taken).to(self._kit.device)] if len(taken) else []
        if missing := count - len(taken):
            images.append(self._drawn(missing))
        return torch.cat(images)

    def _drawn(self, count: int) -> Tensor:
        if self._shape[0] in (1, 3):
            return bytes_to_unit(shapes_pool(count, self._shape, self._kit.generator))
        coarse = self._rand(count, self._shape[0], 3, 3)
        return F.interpolate(coarse, self._shape[1:], mode="bilinear", align_corners=False)

    def _rand(self, *size: int) -> Tensor:
        return torch.rand(size, generator=self._kit.generator, device=self._kit.device)

    def _shuffled(self, count: int) -> Tensor:
        return torch.randperm(count, generator=self._kit.generator, device=self._kit.device)
