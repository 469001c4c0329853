"""Independent named random streams out of one seed, and randomness seeded by an image.

Nothing in the arena touches global random state. A stream is named after its consumer, so a
new consumer shifts no other.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

_MASK = (1 << 63) - 1


def derive_seed(seed: int, name: str) -> int:
    """Derive the 63-bit seed of the stream `name` from the episode's seed."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & _MASK


class Streams:
    """Independent named random streams of one seed.

    Example:
        >>> Streams(7).integer("victim") == Streams(7).integer("victim")
        True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def integer(self, name: str) -> int:
        """Return the seed of a stream, 0 to 2**63 - 1."""
        return derive_seed(self.seed, name)

    def torch(self, name: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Return a fresh generator at the start of the stream, on `device`."""
        generator = torch.Generator(device=device)
        generator.manual_seed(self.integer(name))
        return generator

    def numpy(self, name: str) -> np.random.Generator:
        """Return a fresh NumPy generator at the start of the stream."""
        return np.random.default_rng(self.integer(name))

    def child(self, name: str) -> "Streams":
        """Return the streams of a part, independent of this one's."""
        return Streams(self.integer(name))


def image_uniforms(images: Tensor, key: int, count: int = 1) -> Tensor:
    """Draw uniform numbers that are a keyed function of each image's 8-bit content.

    Repeats of an image get the same numbers, so they tell an attacker nothing; images that
    differ in one pixel by 1/255 get unrelated ones. Runs on the images' device, no sync.

    Args:
        images: (n, c, h, w) float in [0, 1].
        key: the server's secret.
        count: numbers per image.

    Returns:
        (n, count) float64 in [0, 1).
    """
    pixels = (images.flatten(1) * 255).round().to(torch.int64)
    rng = np.random.default_rng(key)
    weights = torch.from_numpy(rng.integers(1, 2**62, size=pixels.shape[1], dtype=np.int64))
    # int64 arithmetic wraps, which is what a multiply-add hash wants
    hashed = (pixels * weights.to(pixels.device, non_blocking=True)).sum(1, keepdim=True)
    offsets = torch.arange(1, count + 1, device=pixels.device) * -7046029254386353131
    return _mix(hashed + offsets).to(torch.float64) / float(1 << 53)


def _mix(words: Tensor) -> Tensor:
    """Finish a 64-bit hash (the splitmix64 finaliser); returns the upper 53 bits."""
    for shift, multiplier in ((30, -4658895280553007687), (27, -7723592293110705685)):
        words = (words ^ _shift_right(words, shift)) * multiplier
    words = words ^ _shift_right(words, 31)
    return _shift_right(words, 11)


def _shift_right(words: Tensor, bits: int) -> Tensor:
    """Shift right without sign extension; torch's int64 shift is arithmetic."""
    return (words >> bits) & ((1 << (64 - bits)) - 1)
