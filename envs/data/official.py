"""The benchmark data sets of the field, read from their official files.

Sources:
    CIFAR-10, CIFAR-100: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images,
    2009. SVHN: Y. Netzer et al., Reading Digits in Natural Images with Unsupervised Feature
    Learning, NIPS workshop 2011. MNIST: Y. LeCun et al., Gradient-Based Learning Applied to
    Document Recognition, 1998. Fashion-MNIST: H. Xiao et al. 2017, arXiv:1708.07747.
"""

import hashlib
import io
import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.data.images import ImageSet, Normalisation, Splits
from envs.data.resize import pad_to
from envs.data.splits import divide, hold_out, make_splits
from envs.errors import ArenaError, DataMissing, one_line
from envs.ranges import Natural, Side

_SEED = 0  # of the hold-outs; fixed, because cached victims rest on them


@dataclass(frozen=True, slots=True)
class _Official:
    """How a data set of torchvision is found, read and normalised.

    `parts` are the keyword arguments of the training and the test part; `layout` is what its
    reader expects below the root.
    """

    title: str
    reader: str
    parts: tuple[dict[str, Any], dict[str, Any]]  # arguments of an OOD constructor
    layout: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


_TRAIN_TEST: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
_CIFAR = {"mean": (0.4914, 0.4822, 0.4465), "std": (0.2023, 0.1994, 0.2010)}

# The usual constants of the literature, so that a victim compares with published ones.
OFFICIAL = {
    "cifar10": _Official(
        "CIFAR-10", "CIFAR10", _TRAIN_TEST,
        "the folder cifar-10-batches-py (data_batch_1 to 5, test_batch, batches.meta)", **_CIFAR,
    ),
    "cifar100": _Official(
        "CIFAR-100", "CIFAR100", _TRAIN_TEST,
        "the folder cifar-100-python (train, test, meta)", **_CIFAR,
    ),
    "svhn": _Official(
        "SVHN", "SVHN", ({"split": "train"}, {"split": "test"}),
        "train_32x32.mat and test_32x32.mat", (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970),
    ),
    "mnist": _Official(
        "MNIST", "MNIST", _TRAIN_TEST,
        "the folder MNIST/raw with the four ubyte files", (0.1307,), (0.3081,),
    ),
    "fashion-mnist": _Official(
        "Fashion-MNIST", "FashionMNIST", _TRAIN_TEST,
        "the folder FashionMNIST/raw with the four ubyte files", (0.286,), (0.353,),
    ),
}  # fmt: skip


def official_reader(name: str) -> Callable[..., Splits]:
    """Return the function that reads one of `OFFICIAL` as splits."""
    if name in ("mnist", "fashion-mnist"):

        def padded(
            *, root: Path, download: bool = False, validation: Natural = 5000, size: Side = 28
        ) -> Splits:
            """Read 28x28 grey images; `size` above 28 pads them with black."""
            return _splits(name, root, download=download, validation=validation, size=size)

        return padded

    def plain(*, root: Path, download: bool = False, validation: Natural = 5000) -> Splits:
        """Read 32x32 colour images; `validation` of the training images are held out."""
        return _splits(name, root, download=download, validation=validation, size=None)

    return plain


def _splits(name: str, root: Path, *, download: bool, validation: int, size: int | None) -> Splits:
    """Read both parts and hold the validation images out of the training part."""
    official = OFFICIAL[name]
    whole = _part(name, official, root, train=True, download=download)
    test = _part(name, official, root, train=False, download=download)
    normalisation: Normalisation | None = (official.mean, official.std)
    if size is not None and size != whole.image_shape[1]:
        whole, test, normalisation = _padded(whole, size), _padded(test, size), None
    if not 0 <= validation < len(whole):
        raise ArenaError(
            f"asked to hold out {validation} of {len(whole)} training images of '{name}'; "
            "ask for fewer"
        )
    kept, held = hold_out(whole.labels, validation, _SEED)
    parts = (whole.select(kept), whole.select(held), test)
    return make_splits(name, parts, normalisation=normalisation)


def _padded(images: ImageSet, size: int) -> ImageSet:
    return ImageSet(
        pad_to(images.pixels, size),
        images.labels,
        images.num_classes,
        images.name,
        images.classes,
    )


def _part(name: str, official: _Official, root: Path, *, train: bool, download: bool) -> ImageSet:
    """Read the training or the test part through torchvision."""
    from torchvision import datasets  # seconds to import, and only these sets need it

    reader = getattr(datasets, official.reader)
    arguments = official.parts[0 if train else 1]
    try:
        data = reader(str(root), **arguments, download=download)
    except (
        Exception
    ) as error:  # RuntimeError, OSError, URLError, pickle and scipy errors: all its own
        raise _missing(official, root, error, download=download) from error
    labels = torch.as_tensor(np.asarray(data.labels if name == "svhn" else data.targets))
    classes = tuple(getattr(data, "classes", None) or map(str, range(10)))
    pixels = _channels_first(name, torch.as_tensor(data.data))
    return ImageSet(pixels, labels.to(torch.int64), len(classes), name, classes)


def _channels_first(name: str, data: Tensor) -> Tensor:
    """Bring the array of a torchvision set to (n, c, h, w)."""
    if data.ndim == 3:
        return data.unsqueeze(1).contiguous()
    return data.contiguous() if name == "svhn" else data.permute(0, 3, 1, 2).contiguous()


def _missing(official: _Official, root: Path, error: Exception, *, download: bool) -> DataMissing:
    reason = one_line(error)[:200]
    if download:
        return DataMissing(f"could not get {official.title} into {root}: {reason}")
    return DataMissing(
        f"no {official.title} in {root}, or it is damaged: expected {official.layout}; put it "
        f"there, say where it is with 'root' or ARENA_DATA, or set 'download' to fetch it"
    )


_CLASS_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach "
    "couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster "
    "house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree "
    "motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket "
    "rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar "
    "sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip "
    "turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR100_CLASSES = tuple(_CLASS_NAMES.split())
_CIFAR100_TEST_MD5 = "f0ef6b0ae62326f3e7ffdfab6717acfc"


def cifar100_test_splits(
    *, root: Path, validation: Natural = 1000, test: Natural = 2000, seed: int = 0
) -> Splits:
    """Read the 10,000 official test images of CIFAR-100, for those who have only that file.

    Raises:
        DataMissing: the file is not there or is not the official one.
    """
    file = root / "cifar-100-python" / "test"
    data = _bytes(file, "the official python file of CIFAR-100's test images")
    # the digest is checked before unpickling: a pickle can run any code
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != _CIFAR100_TEST_MD5:
        raise DataMissing(f"{file} is damaged: it is not the official test file of CIFAR-100")
    content = pickle.loads(data, encoding="latin1")
    pixels = torch.from_numpy(content["data"].copy()).view(-1, 3, 32, 32)
    labels = torch.tensor(content["fine_labels"], dtype=torch.int64)
    images = ImageSet(pixels, labels, 100, "cifar100-test", CIFAR100_CLASSES)
    parts = divide(images, validation=validation, test=test, seed=seed)
    return make_splits("cifar100-test", parts, normalisation=(_CIFAR["mean"], _CIFAR["std"]))


def svhn_test_splits(
    *, root: Path, validation: Natural = 1000, test: Natural = 2000, seed: int = 0
) -> Splits:
    """Read the first 10,000 test images of SVHN from one npz file, X (n, 32, 32, 3) and y (n,).

    The digit 0 may have the label 0, or 10 as in SVHN's own files.

    Raises:
        DataMissing: the file is not there or does not hold such arrays.
    """
    file = root / "svhn_test_first10k.npz"
    data = _bytes(file, "an npz file of SVHN test images with X (n, 32, 32, 3) uint8 and y (n,)")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            pixels = torch.from_numpy(arrays["X"]).permute(0, 3, 1, 2).contiguous()
            labels = _digit_labels(torch.from_numpy(arrays["y"].astype(np.int64)))
        images = ImageSet(pixels, labels, 10, "svhn-test", tuple("0123456789"))
    except (ValueError, KeyError, EOFError, RuntimeError, OSError, zipfile.BadZipFile) as error:
        raise DataMissing(f"{file} is damaged: {error}") from error
    parts = divide(images, validation=validation, test=test, seed=seed)
    normalisation = (OFFICIAL["svhn"].mean, OFFICIAL["svhn"].std)
    return make_splits("svhn-test", parts, normalisation=normalisation)


def _digit_labels(labels: Tensor) -> Tensor:
    """Give the digit 0 the label 0; SVHN's own files call it 10.

    Raises:
        ValueError: both are in use, so that one of them is wrong.
    """
    if bool((labels == 10).any()) and bool((labels == 0).any()):
        raise ValueError("expected the digit 0 as label 0 or as label 10, got both")
    return labels.where(labels != 10, 0)


def _bytes(file: Path, what: str) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError as error:
        raise DataMissing(
            f"no {file}; expected {what}: put it there, or say where it is with 'root' or "
            "ARENA_DATA"
        ) from error
    except OSError as error:
        raise DataMissing(f"cannot read {file}: {error.strerror}") from error
