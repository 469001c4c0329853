"""Finds images that two sets share, by the content of each image."""

import hashlib
from collections.abc import Iterator

import torch

from envs.data.images import PARTS, SCORED, ImageSet, Splits

_CHUNK = 4096  # images that are copied from the device at once


def digests(images: ImageSet) -> frozenset[bytes]:
    """Digest the pixels of each image (BLAKE2, 16 bytes), whatever their order and labels."""
    return frozenset(_in_order(images))


def without(images: ImageSet, unwanted: frozenset[bytes]) -> ImageSet:
    """Leave out the images whose digest is unwanted; the others keep their order."""
    kept = [n for n, digest in enumerate(_in_order(images)) if digest not in unwanted]
    if len(kept) == len(images):
        return images
    return images.select(torch.tensor(kept, dtype=torch.int64, device=images.device))


def copies_among_scored(splits: Splits) -> int:
    """Count the images that clones are scored on and of which another part holds a copy."""
    others = (digests(splits.parts[part]) for part in PARTS if part not in SCORED)
    known = frozenset[bytes]().union(*others)
    return sum(one in known for part in SCORED for one in _in_order(splits.parts[part]))


def _in_order(images: ImageSet) -> Iterator[bytes]:
    for chunk in torch.split(images.pixels, _CHUNK):
        for image in chunk.contiguous().cpu().numpy():
            yield hashlib.blake2b(image.data, digest_size=16).digest()


def scored_digests(splits: Splits) -> frozenset[bytes]:
    """Digest the images that clones are scored on.

    Images that lie in another part too are left out: some data sets hold an image twice, and
    who owns the training images has not seen the test set.
    """
    scored = frozenset().union(*(digests(splits.parts[part]) for part in SCORED))
    others = (digests(splits.parts[part]) for part in PARTS if part not in SCORED)
    return scored.difference(*others)
