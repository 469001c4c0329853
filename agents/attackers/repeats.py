"""Asks images again and near copies of them: a validity check of whoever measures a defence."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from agents.base import ArchitectureGuess, Attacker, Kit
from agents.learning.transfer_set import Draws, branch, of_pool
from envs.data.images import bytes_to_unit
from envs.oracle import Oracle
from envs.ranges import Count

REPEATS = "repeats"
"""Kind of the note that holds what was found."""


class Repeats(Attacker):
    """Measures whether an answer depends on the image alone.

    Each image is asked twice as it is, and once with every value moved by -1/255, 0 or 1/255. Noted
    are, for images of the pool (where one is lent) and for uniform noise, the mean L1 distance to
    the first answer, from 0 to 2, and the share of images whose most likely label is another one.
    Answers that vary call for averaging. It trains no clone.

    Args:
        images: of each kind, fewer where the budget is below six times as many.

    Source:
        Ours; that random answers have to be averaged before a defence is judged is Athalye et al.
        2018, Obfuscated gradients give a false sense of security, arXiv:1802.00420.
    """

    def __init__(self, *, images: Count = 200) -> None:
        self._images = images

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Ask each image three times, and note how far the answers lie apart."""
        self.inferred = ArchitectureGuess()  # it says nothing of how the victim is built
        found: dict[str, Mapping[str, float]] = {}
        for kind, images in self._asked(oracle, kit):
            first, again = (oracle.query(images).posteriors for _ in range(2))
            near = oracle.query(_moved(images, kit)).posteriors
            found[kind] = {
                **_apart(first, again, ("distance", "relabelled")),
                **_apart(first, near, ("near_distance", "near_relabelled")),
            }
        if found:
            kit.note(REPEATS, _in_words(found), **found)

    def _asked(self, oracle: Oracle, kit: Kit) -> Iterator[tuple[str, Tensor]]:
        kinds = 1 if kit.surrogate_pool is None else 2
        count = min(self._images, oracle.remaining // (3 * kinds))
        if count and kit.surrogate_pool is not None:
            draws = Draws(len(kit.pool), branch(kit.generator))
            yield "pool", bytes_to_unit(of_pool(kit.pool, draws.take(count)))
        if count:
            shape = (count, *oracle.threat.image_shape)
            yield "noise", torch.rand(shape, generator=kit.generator, device=kit.device)


def _moved(images: Tensor, kit: Kit) -> Tensor:
    steps = torch.randint(-1, 2, images.shape, generator=kit.generator, device=images.device)
    return (images + steps / 255).clamp(0, 1)


def _apart(first: Tensor, second: Tensor, names: tuple[str, str]) -> dict[str, float]:
    distance = (first - second).abs().sum(1).mean().item()
    relabelled = (first.argmax(1) != second.argmax(1)).double().mean().item()
    return {names[0]: distance, names[1]: relabelled}


def _in_words(found: Mapping[str, Mapping[str, float]]) -> str:
    parts = [
        f"{kind}: {one['distance']:.3g} apart when asked again ({100 * one['relabelled']:.3g}% "
        f"relabelled), {one['near_distance']:.3g} beside it ({100 * one['near_relabelled']:.3g}%)"
        for kind, one in found.items()
    ]
    return "; ".join(parts)
