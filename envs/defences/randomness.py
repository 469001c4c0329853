"""The chance of a randomised defence: new at each query, or a keyed function of the image."""

import torch
from torch import Tensor

from envs.defences.harden_kit import HardenKit
from envs.exits.random_rules import Seeding
from envs.seeding import image_uniforms

_LEAST = 2.0**-54  # below the smallest number drawn above 0, so that no normal is infinite


class Chance:
    """Draws numbers for a defence.

    Args:
        randomness: "fresh" noise can be averaged away by asking again; "hash" gives repeats of an
            image the same noise, which near-duplicates do not share.
    """

    def __init__(self, randomness: Seeding) -> None:
        if randomness not in ("fresh", "hash"):
            raise ValueError(f"expected the randomness 'fresh' or 'hash', got {randomness!r}")
        self.randomness = randomness
        self._key = 0

    def take_key(self, kit: HardenKit, name: str) -> None:
        """Take the server's secret from the hardening's streams."""
        self._key = kit.streams.integer(f"{name}/key")

    def uniforms(self, images: Tensor, count: int, generator: torch.Generator) -> Tensor:
        """Draw (n, count) float64 in [0, 1).

        Args:
            images: (n, c, h, w) in [0, 1], as they were asked.
            count: numbers per image.
            generator: the defence's stream, on the images' device.
        """
        if self.randomness == "hash":
            return image_uniforms(images, self._key, count)
        shape = (len(images), count)
        return torch.rand(shape, dtype=torch.float64, device=images.device, generator=generator)


def to_normal(uniforms: Tensor) -> Tensor:
    """Turn uniform numbers in [0, 1) into standard normal ones, by inversion."""
    normal: Tensor = torch.special.ndtri(uniforms.clamp_min(_LEAST))
    return normal
