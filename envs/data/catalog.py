"""The table of data sets and surrogate pools: what each is, how it is read, what it needs."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torch import Tensor

from envs.data.arrays import array_form, labelled, read_arrays
from envs.data.digits import digits_splits
from envs.data.folders import (
    TINY_FOLDER,
    TINY_LAYOUT,
    TINY_URL,
    folder_form,
    folder_pool,
    folder_splits,
    is_image,
    tiny_imagenet_splits,
)
from envs.data.hub import is_saved_part, read_saved
from envs.data.images import ImageSet, Splits
from envs.data.official import OFFICIAL, cifar100_test_splits, official_reader, svhn_test_splits
from envs.data.photographs import (
    CALTECH_FOLDERS,
    CALTECH_LAYOUT,
    CALTECH_URL,
    CUB_FOLDER,
    CUB_LAYOUT,
    CUB_URL,
    caltech256_splits,
    cub200_splits,
)
from envs.data.pictures import Size
from envs.data.shapes import shapes_pool, shapes_splits
from envs.data.strokes import noise_pool, strokes_pool

Part = Literal["train", "validation", "benign", "checkpoint", "test", "all"]
Form = tuple[tuple[int, int, int], int]
"""Channels, height and width of an image, and the number of classes."""


@dataclass(frozen=True, slots=True)
class Source:
    """One name of the catalog.

    Args:
        summary: one line for listings.
        splits: reads a labelled set, or None where the images mean nothing.
        draw: draws a pool of unlabelled images, or None where the pool is cut out of `splits`.
        pool_part: the part of `splits` a pool is taken from unless another is asked for.
        needs: what has to lie in the data root, and where to get it; "" for nothing.
        found: paths below the root one of which tells that it is there.
        form: (channels, height, width) and classes, from the root and options; None where only
            the images tell.
        pool: reads what a pool is cut out of, where that may have no labels; `splits` if None.
        path: whether it takes a path below the data root.
        reads: tells of a file below that path whether its content counts.
    """

    summary: str
    splits: Callable[..., Splits] | None = None
    draw: Callable[..., Tensor] | None = None
    pool_part: Part = "train"
    needs: str = ""
    found: tuple[str, ...] = ()
    form: Callable[..., Form | None] = lambda root, **options: None
    pool: Callable[..., Splits | ImageSet] | None = None
    path: Literal["", "optional", "needed"] = ""
    reads: Callable[[Path], bool] = lambda file: True

    @property
    def downloads(self) -> bool:
        """Whether its reader can fetch what is missing."""
        if self.splits is None:
            return False
        return "download" in inspect.signature(self.splits).parameters


def _official(name: str, summary: str, found: str) -> Source:
    """List a data set that torchvision reads and can fetch."""
    layout = OFFICIAL[name].layout
    if "mnist" in name:
        form = _sized(1, 10)
    else:
        form = _fixed((3, 32, 32), 100 if name == "cifar100" else 10)
    return Source(summary, official_reader(name), needs=layout, found=(found,), form=form)


def _fixed(image_shape: tuple[int, int, int], classes: int) -> Callable[..., Form]:
    return lambda root, **options: (image_shape, classes)


def _sized(channels: int, classes: int) -> Callable[..., Form]:
    """Give the form of a set that takes a `size`."""

    def form(root: Path, *, size: Size, **options: object) -> Form:
        height, width = (size, size) if isinstance(size, int) else size
        return (channels, height, width), classes

    return form


def _drawn(
    root: Path,
    *,
    image_shape: Sequence[int],
    num_classes: int,
    **options: object,
) -> Form:
    channels, height, width = image_shape
    return (channels, height, width), num_classes


SOURCES: dict[str, Source] = {
    "digits": Source(
        "1,797 real handwritten digits, 8x8 grey, no download",
        digits_splits,
        form=_sized(1, 10),
    ),
    "cifar10": _official(
        "cifar10", "CIFAR-10: 60,000 photographs, 32x32, 10 classes", "cifar-10-batches-py"
    ),
    "cifar100": _official(
        "cifar100", "CIFAR-100: 60,000 photographs, 32x32, 100 classes", "cifar-100-python/train"
    ),
    "cifar100-test": Source(
        "the 10,000 test images of CIFAR-100 alone",
        cifar100_test_splits,
        pool_part="all",
        needs="cifar-100-python/test",
        found=("cifar-100-python/test",),
        form=_fixed((3, 32, 32), 100),
    ),
    "svhn": _official("svhn", "SVHN: 99,289 house numbers, 32x32, 10 classes", "train_32x32.mat"),
    "svhn-test": Source(
        "the first 10,000 test images of SVHN alone",
        svhn_test_splits,
        pool_part="all",
        needs="svhn_test_first10k.npz with X (n, 32, 32, 3) uint8 and y (n,)",
        found=("svhn_test_first10k.npz",),
        form=_fixed((3, 32, 32), 10),
    ),
    "mnist": _official("mnist", "MNIST: 70,000 digits, 28x28 grey", "MNIST/raw"),
    "fashion-mnist": _official(
        "fashion-mnist", "Fashion-MNIST: 70,000 pieces of clothing, 28x28 grey", "FashionMNIST/raw"
    ),
    "tiny-imagenet": Source(
        'Tiny-ImageNet ("ImageNet200") or a part of it: 200 classes, 64x64',
        tiny_imagenet_splits,
        needs=f"{TINY_LAYOUT}, from {TINY_URL}",
        found=(f"{TINY_FOLDER}/train",),
        form=_sized(3, 200),
    ),
    "cub200": Source(
        "CUB-200-2011: 11,788 photographs of 200 birds, 224x224",
        cub200_splits,
        needs=f"{CUB_LAYOUT}, from {CUB_URL}",
        found=(CUB_FOLDER,),
        form=_sized(3, 200),
    ),
    "caltech256": Source(
        "Caltech-256: 29,780 photographs of 256 things, 224x224",
        caltech256_splits,
        needs=f"{CALTECH_LAYOUT}, from {CALTECH_URL}",
        found=CALTECH_FOLDERS,
        form=_sized(3, 256),
    ),
    "folder": Source(
        "any folder of images, CLASS/*.png or .jpg",
        folder_splits,
        needs="images as CLASS/FILE.png or .jpg, below 'path' or the root itself",
        form=folder_form,
        pool=folder_pool,
        path="optional",
        reads=is_image,
    ),
    "arrays": Source(
        "arrays of a file, .npz (images and labels) or, as a pool, .npy",
        labelled(read_arrays),
        needs="a file of arrays in 'path', .npz or .npy",
        form=array_form,
        pool=read_arrays,
        path="needed",
    ),
    "hf-dataset": Source(
        "a data set of the library datasets, as save_to_disk writes it",
        labelled(read_saved),
        needs="a folder in 'path' that save_to_disk wrote",
        pool=read_saved,
        path="needed",
        reads=is_saved_part,
    ),
    "shapes": Source(
        "synthetic shapes: a toy task, and the data-free surrogate pool",
        shapes_splits,
        shapes_pool,
        form=_drawn,
    ),
    "strokes": Source("synthetic pen strokes that look like digits, a pool", draw=strokes_pool),
    "noise": Source("uniform noise, a pool", draw=noise_pool),
}
