"""Cuts pools out of data sets: a part, some classes, and so many images at random."""

from collections.abc import Sequence

import torch

from envs.data.images import ImageSet, Splits, joined
from envs.errors import ArenaError, UnknownName


def part_of(splits: Splits, part: str) -> ImageSet:
    """Return one part of a set, or all joined."""
    parts = splits.parts
    if part in parts:
        return parts[part]
    if part != "all":
        raise UnknownName("part of a data set", part, [*parts, "all"])
    return joined(list(parts.values()))


def of_classes(images: ImageSet, classes: Sequence[str] | None) -> ImageSet:
    """Keep the images of the named classes; labels keep their numbers."""
    if classes is None:
        return images
    for name in classes:
        if name not in images.classes:
            raise UnknownName(f"class of '{images.name}'", name, images.classes)
    wanted = torch.tensor([images.classes.index(name) for name in classes])
    return images.select(torch.isin(images.labels, wanted))


def sample(images: ImageSet, count: int | None, generator: torch.Generator) -> ImageSet:
    """Take `count` images at random, without repeats; all, in their order, where it is None."""
    if count is None:
        return images
    require_count(count, images.name, len(images))
    order = torch.randperm(len(images), generator=generator, device=generator.device)
    return images.select(order[:count])


def require_count(count: int, name: str, there: int) -> None:
    """Check that a set has as many images as are asked for.

    Raises:
        ArenaError: it has fewer.
    """
    if not 0 < count <= there:
        raise ArenaError(
            f"asked for a pool of {count} images of '{name}', which has {there}; "
            "ask for fewer, or for crops and mixes of them: enlarge = true"
        )
