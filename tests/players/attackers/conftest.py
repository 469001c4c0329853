"""A pool of random images, and a kit that lends it."""

from dataclasses import replace

import pytest
import torch

from envs.data.images import ImageSet
from envs.seeding import Streams

SHAPE = (1, 8, 8)


def pool_of(count=60, classes=3):
    pixels = torch.randint(256, (count, *SHAPE), generator=Streams(5).torch("pool"))
    names = tuple(str(k) for k in range(classes))
    return ImageSet(pixels.to(torch.uint8), torch.arange(count) % classes, classes, "pool", names)


def quarters(images):
    """Four classes, told apart by the brightness of the quarters of an image."""
    return (20 * images.reshape(len(images), 4, -1).mean(2)).softmax(1)


@pytest.fixture
def random_pool():
    return pool_of


@pytest.fixture
def posteriors():
    return quarters


@pytest.fixture
def with_pool(kit):
    def lent(pool=None, **options):
        return replace(kit(**options), surrogate_pool=pool_of() if pool is None else pool)

    return lent
