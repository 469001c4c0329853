"""What an early answer says: a class that is a keyed function of the image, and a confidence.

An answer that is one class for all is dropped by whoever looks at the histogram; one drawn anew
for each image averages out while a clone trains; one that is wrong on purpose is information
turned upside down. A decoy is none of these: it is smooth, so that a clone learns it and carries
it over to the victim's own images, and it says as little as it can of the class.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from envs.data.images import ImageSet
from envs.seeding import Streams, image_uniforms

_SIDE = 8
_DIRECTIONS = 20
_CHUNK = 1024


class Decoy:
    """Gives every image a class by the angle of two keyed projections of its thumbnail.

    The projections are random ones of the directions in which images of one class differ from
    each other; those in which the means of the classes differ are taken out first. So all
    classes have their centre at the origin, and the angle tells little of the class.

    Args:
        own: the victim's training images with labels; only moments of them are kept.
        streams: of the hardening.
        name: of this decoy; another name is another key.

    Attributes:
        macs: multiply-accumulates of one answer.
    """

    def __init__(self, own: ImageSet, streams: Streams, *, name: str) -> None:
        chance = streams.torch(f"decoy/{name}")
        self.num_classes = own.num_classes
        seen = torch.cat([_thumbnail(images).cpu() for images, _ in own.batches(_CHUNK)])
        self._map, self._offset = _projections(seen, own.labels.cpu(), own.num_classes, chance)
        self._phase = float(torch.rand((), generator=chance))
        self._order = torch.randperm(own.num_classes, generator=chance)
        self.macs = self._map.numel()

    def classes(self, images: Tensor) -> Tensor:
        """Return the (n,) int64 decoy classes of (n, c, h, w) images."""
        device = images.device
        flat = _thumbnail(images) @ self._map.to(device) - self._offset.to(device)  # (n, 2)
        turn = (torch.atan2(flat[:, 1], flat[:, 0]) / (2 * math.pi) + self._phase) % 1
        sector = (turn * self.num_classes).long().clamp_max(self.num_classes - 1)
        return self._order.to(device)[sector]


class AnswerBank:
    """Posteriors of the whole network, to dress a class with.

    Which posterior an image gets is a keyed function of its pixels, so that repeats tell nothing
    new. Its largest probability changes places with that of the class to be served. So the
    confidence of an answer depends neither on the class nor on who chose it.

    Args:
        posteriors: (m, K) of held-out images of the victim's own.
        key: the server's secret.
    """

    def __init__(self, posteriors: Tensor, *, key: int) -> None:
        if not len(posteriors):
            raise ValueError("expected at least one posterior to dress answers with")
        self._rows, self._key = posteriors, key

    def dress(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return (n, K) float32 posteriors whose most likely classes are the (n,) given ones."""
        chance = image_uniforms(images, self._key)[:, 0]
        rows = self._rows[(chance * len(self._rows)).long()]
        top = rows.argmax(1)
        # exchange the two columns; where they are one nothing changes
        order = torch.arange(rows.shape[1], device=rows.device).repeat(len(rows), 1)
        order.scatter_(1, classes[:, None], top[:, None])
        order.scatter_(1, top[:, None], classes[:, None])
        return rows.gather(1, order)


def _thumbnail(images: Tensor) -> Tensor:
    """Reduce images to at most 8x8 greys: (n, g * g) in [0, 1]."""
    side = min(_SIDE, *images.shape[2:])
    return F.adaptive_avg_pool2d(images.mean(1, keepdim=True), side).flatten(1)


def _projections(
    seen: Tensor, labels: Tensor, num_classes: int, chance: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw two orthogonal projections of unit variance within a class.

    Returns:
        (d, 2) map and the (2,) mean of what it maps the images to.
    """
    present = [c for c in range(num_classes) if bool((labels == c).any())]
    means = torch.stack([seen[labels == c].mean(0) for c in present])
    between = torch.linalg.svd(means - means.mean(0), full_matrices=False).Vh
    # of many classes the strongest differences alone, or no direction would be left
    between = between[: min(len(present) - 1, seen.shape[1] // 2)]
    place = torch.tensor([present.index(int(c)) for c in labels])
    within = (seen - means[place]) @ (torch.eye(seen.shape[1]) - between.T @ between)
    spread, axes = torch.linalg.eigh(within.T @ within / len(within))
    count = min(_DIRECTIONS, seen.shape[1] - len(between))
    spread, axes = spread[-count:].clamp_min(1e-8), axes[:, -count:]
    drawn = torch.linalg.qr(torch.randn(count, 2, generator=chance)).Q
    mapped = axes @ (drawn / spread.sqrt()[:, None])
    return mapped, (seen @ mapped).mean(0)
