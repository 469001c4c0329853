"""Fixed, stratified hold-outs that no release of a random library can change."""

import hashlib

import torch
from torch import Tensor

from envs.data.images import ImageSet
from envs.errors import ArenaError


def stable_order(count: int, seed: int) -> Tensor:
    """Return a permutation of 0..count-1, (count,) int64, that depends on nothing but `seed`.

    The order is that of SHA-256 digests: cached victims are addressed by the images they were
    trained on, so a split must outlive the random generators of torch and NumPy.
    """
    digests = [hashlib.sha256(f"{seed}/{i}".encode()).digest() for i in range(count)]
    return torch.tensor(sorted(range(count), key=digests.__getitem__), dtype=torch.int64)


def hold_out(labels: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Divide positions into those that stay and `count` that are held out, stratified.

    Systematic sampling along the class-sorted shuffled positions: the number held out is exact,
    and each class gives its share of it to within one image.

    Args:
        labels: (n,) int64 on the CPU.
        count: positions to hold out, 0 to n.
        seed: chooses among the divisions.

    Returns:
        Kept (n - count,) and held (count,) positions, int64, each ascending.
    """
    total = len(labels)
    if not 0 <= count <= total:
        raise ArenaError(f"asked to hold out {count} of {total} images; ask for fewer")
    shuffled = stable_order(total, seed)
    by_class = shuffled[labels[shuffled].argsort(stable=True)]
    steps = torch.arange(total + 1) * count // max(total, 1)
    chosen = steps[1:] > steps[:-1]
    return by_class[~chosen].sort().values, by_class[chosen].sort().values


def divide(
    images: ImageSet, *, validation: int, test: int, seed: int
) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Divide one set into training, validation and test images, stratified and fixed by `seed`.

    Raises:
        ArenaError: validation and test leave nothing to train on.
    """
    if validation < 0 or test < 0 or validation + test >= len(images):
        raise ArenaError(
            f"'{images.name}' has {len(images)} images: {validation} for validation and {test} "
            "for testing leave none to train on; ask for fewer"
        )
    rest, tested = hold_out(images.labels, test, seed)
    kept, validated = hold_out(images.labels[rest], validation, seed + 1)
    return (
        images.select(rest[kept]),
        images.select(rest[validated]),
        images.select(tested),
    )
