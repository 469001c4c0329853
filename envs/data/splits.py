"""The parts of a data set: fixed, stratified, and the same under every random library.

Of the images that a data set has for testing, `make_splits` gives a part to benign users and a
part to the checkpoints. The rest is what a clone is finally scored on.
"""

import hashlib

import torch
from torch import Tensor

from envs.data.images import ImageSet, Normalisation, Splits, fingerprint, joined
from envs.errors import ArenaError

_SHARE = 5  # a fifth of the test images for benign users, and a fifth for checkpoints
_MOST = 1000  # images that are enough for either
_BENIGN_SEED, _CHECKPOINT_SEED = 2, 3  # of the hold-outs


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


def make_splits(
    name: str,
    parts: tuple[ImageSet, ImageSet, ImageSet],
    *,
    normalisation: Normalisation | None = None,
) -> Splits:
    """Join training, validation and test images into `Splits`.

    Of the test images a fifth, at most 1,000, becomes the benign users' part and as many the
    checkpoints'; both are stratified and never change.

    Args:
        name: the data set's name.
        parts: training, validation and test images.
        normalisation: mean and deviation per channel; measured on the training images where
            none are given.
    """
    train, validation, tested = parts
    mean, std = normalisation if normalisation is not None else train.mean_std()
    benign, checkpoint, test = _divided(tested)
    return Splits(train, validation, benign, checkpoint, test, mean, std, name, fingerprint(*parts))


def resampled(splits: Splits, seed: int) -> Splits:
    """Divide all images of a data set anew, stratified, into parts as large as they were.

    Mean and deviation are measured on the new training images where they were on the old ones;
    published constants stay.

    Args:
        splits: the division that the data set comes with.
        seed: chooses among the divisions.
    """
    images = joined([part.to("cpu") for part in splits.parts.values()])
    own = (splits.mean, splits.std)
    tested = sum(map(len, (splits.benign, splits.checkpoint, splits.test)))
    parts = divide(images, validation=len(splits.validation), test=tested, seed=seed)
    fixed = None if own == splits.train.mean_std() else own
    return make_splits(splits.name, parts, normalisation=fixed).to(splits.train.device)


def _divided(tested: ImageSet) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Divide test images into those of benign users, of checkpoints and of the final score."""
    count = min(_MOST, max(len(tested) // _SHARE, int(len(tested) > 2)))
    labels = tested.labels.cpu()
    rest, benign = hold_out(labels, count, _BENIGN_SEED)
    kept, held = hold_out(labels[rest], count, _CHECKPOINT_SEED)
    return tested.select(benign), tested.select(rest[held]), tested.select(rest[kept])
