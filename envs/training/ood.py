"""Out-of-distribution images to train exits on: fresh batches from a named source or a mixture.

Names that are not built in are data sets, which the caller's `load_pool` knows.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from envs.errors import ScenarioError, UnknownName
from envs.training.ood_sources import SOURCES, Draw, Material

SourceSpec: TypeAlias = str | Sequence[str] | Mapping[str, float]
"""One name, several of equal weight, or weights by name."""


def ood_source(spec: SourceSpec, material: Material) -> Draw:
    """Return the source of this description.

    Args:
        spec: a name of `SOURCES` or of a data set, a list of them, or weights by name.
        material: what it draws from.

    Raises:
        ScenarioError: no name, or a weight that is not above 0.
        UnknownName: a name that is neither built in nor a data set.
    """
    weights = source_weights(spec)
    return Mixture([_one(name, material) for name in weights], list(weights.values()))


def source_weights(spec: SourceSpec) -> dict[str, float]:
    """Return shares by name, which sum to 1, in the order written.

    Raises:
        ScenarioError: no name, or a weight that is not above 0.
    """
    if isinstance(spec, str):
        spec = [spec]
    named = dict(spec) if isinstance(spec, Mapping) else dict.fromkeys(spec, 1.0)
    if not named or not all(weight > 0 for weight in named.values()):
        raise ScenarioError(
            f"expected 'ood' to name a source, a list of them, or weights above 0 by name; "
            f"got {spec!r}; known: {', '.join(sorted(SOURCES))}"
        )
    total = sum(named.values())
    return {name: weight / total for name, weight in named.items()}


class Mixture:
    """Draws fixed shares of several sources; a batch holds them one after another.

    The shares of one batch are rounded, with what is left over drawn by the next batches, so
    that small batches keep the weights on average.

    Args:
        draws: the sources.
        shares: their weights, summing to 1.
    """

    def __init__(self, draws: Sequence[Draw], shares: Sequence[float]) -> None:
        self._draws, self._shares = tuple(draws), tuple(shares)
        self._owed = [0.0] * len(self._draws)

    def __call__(self, count: int) -> Tensor:
        """Draw a batch."""
        parts = [
            draw(number)
            for draw, number in zip(self._draws, self._counts(count), strict=True)
            if number
        ]
        return torch.cat(parts)

    def _counts(self, count: int) -> list[int]:
        """Give every source what it is owed, the largest debts first."""
        wanted = [
            owed + count * share for owed, share in zip(self._owed, self._shares, strict=True)
        ]
        counts = [max(0, int(number)) for number in wanted]
        debts = [number - given for number, given in zip(wanted, counts, strict=True)]
        while sum(counts) < count:
            largest = max(range(len(debts)), key=debts.__getitem__)
            counts[largest] += 1
            debts[largest] -= 1
        while sum(counts) > count:
            least = min((i for i, n in enumerate(counts) if n), key=debts.__getitem__)
            counts[least] -= 1
            debts[least] += 1
        self._owed = debts
        return counts


class FixedBatch:
    """Draws one batch and hands out the same images ever after, as the released code does."""

    def __init__(self, draw: Draw) -> None:
        self._draw = draw
        self._batch: Tensor | None = None

    def __call__(self, count: int) -> Tensor:
        """Return the batch; the first call settles its size."""
        if self._batch is None or len(self._batch) < count:
            self._batch = self._draw(count)
        return self._batch[:count]


def _one(name: str, material: Material) -> Draw:
    if name in SOURCES:
        draw: Draw = SOURCES[name](material)
        return draw
    if material.load_pool is None:
        raise UnknownName("source of out-of-distribution images", name, SOURCES)
    pool = material.load_pool(name, generator=material.generator)
    images = pool.to(material.generator.device)
    if images.image_shape != material.image_shape:
        raise ScenarioError(
            f"expected images of shape {material.image_shape} from '{name}', "
            f"got {images.image_shape}"
        )
    return lambda count: material.pick(images, count)
