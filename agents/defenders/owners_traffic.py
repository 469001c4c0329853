"""Benign accounts as an owner can imagine them: what they ask comes from its validation images."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from agents.base import DefenderKit
from envs.errors import PlayerError
from envs.game.rounds import OwnVictim, View

REQUEST = 32
"""Images of a request: what one benign user asks in a row."""

_TURN, _SHIFT = math.radians(10), 0.5  # of moved copies: radians, and pixels


class Pool:
    """Images whose features are computed once, for all requests that ask some of them.

    Args:
        victim: the undefended victim.
        images: (m, c, h, w) float32.

    Attributes:
        images: as given.
    """

    def __init__(self, victim: OwnVictim, images: Tensor) -> None:
        self._victim, self.images = victim, images
        self._features: dict[str | None, Tensor] = {}

    def features(self, layer: str | None = None) -> Tensor:
        """Return the features of all images in a layer of the victim; see `View.features`."""
        if layer not in self._features:
            self._features[layer] = self._victim.features(self.images, layer)
        return self._features[layer]


class PoolView(View):
    """A request of images of a pool."""

    __slots__ = ("_index", "_pool")

    def __init__(self, pool: Pool, index: Tensor, client: int, answered: int) -> None:
        super().__init__(pool.images[index], client, answered)
        self._pool, self._index = pool, index

    def features(self, layer: str | None = None) -> Tensor:
        """Return the features of a layer; see `View.features`."""
        return self._pool.features(layer)[self._index]


class OwnersTraffic(Pool):
    """Draws benign accounts from the owner's validation images.

    No account asks an image twice. Where the images are too few, there are copies of them too,
    turned by up to 10 degrees and shifted by up to half a pixel.

    Args:
        kit: of the defender; its generator draws.
        queries: images that each account asks.
        own: (n, c, h, w) float32, images to draw from; all validation images if absent.
        times: how many times `queries` images there are at least.

    Attributes:
        images: (m, c, h, w) float32, what is drawn from.

    Raises:
        PlayerError: there is no image.
    """

    def __init__(
        self, kit: DefenderKit, queries: int, *, own: Tensor | None = None, times: int = 5
    ) -> None:
        own = kit.validation.images() if own is None else own
        if not len(own):
            raise PlayerError("expected validation images to calibrate on; give a 'limit' instead")
        self._kit, self._queries = kit, queries
        missing = max(0, times * queries - len(own))
        chosen = torch.randint(len(own), (missing,), generator=kit.generator, device=kit.device)
        super().__init__(kit.victim, torch.cat([own, moved(own[chosen], kit.generator)]))

    def accounts(self, count: int) -> Iterator[list[PoolView]]:
        """Draw accounts; each gives its requests in their order."""
        kit = self._kit
        for account in range(count):
            order = torch.randperm(len(self.images), generator=kit.generator, device=kit.device)
            parts = order[: self._queries].split(REQUEST)
            yield [
                PoolView(self, part, account, number * REQUEST) for number, part in enumerate(parts)
            ]


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return (n, c, h, w) images, each turned and shifted a little, in [0, 1]."""
    count, size = len(images), images.shape[-1]
    if count == 0:
        return images
    drawn = 2 * torch.rand(count, 3, generator=generator, device=images.device) - 1
    angle, shift = drawn[:, 0] * _TURN, drawn[:, 1:] * 2 * _SHIFT / size
    turn = torch.stack((angle.cos(), -angle.sin(), angle.sin(), angle.cos()), 1).view(-1, 2, 2)
    grid = F.affine_grid(torch.cat((turn, shift[..., None]), 2), list(images.shape), False)
    return F.grid_sample(images, grid, align_corners=False).clamp(0, 1)
