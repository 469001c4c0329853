"""Arrays of images: what NumPy files, code of others and data sets of others hold.

Images are (n, h, w), (n, h, w, c) or (n, c, h, w): bytes, whole numbers of 0 to 255, 16 bits
(uint16), or floats in [0, 1]. Labels are whole numbers from 0, or texts, which name the classes.
"""

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import NamedTuple, ParamSpec

import numpy as np
import torch
from torch import Tensor

from envs.data.images import ImageSet, Splits
from envs.data.pixel_arrays import pixels_of
from envs.data.splits import divide, hold_out, make_splits
from envs.errors import ArenaError, DataMissing, one_line
from envs.ranges import Natural

P = ParamSpec("P")
UNLABELLED = ("unlabelled",)
"""Class names of a pool without labels."""

_HELD_OUT = 0.1  # share of the images, where there is no part of its own
_IMAGES, _LABELS = ("images", "image", "x", "data"), ("labels", "label", "y", "targets", "target")
_PARTS = {"train": "train", "test": "test", "val": "validation", "valid": "validation",
          "validation": "validation", "": ""}  # fmt: skip


class Division(NamedTuple):
    """How images without parts of their own are divided.

    Attributes:
        validation: images to hold out for validation; a tenth if None.
        test: images to hold out for testing; a tenth if None.
        seed: chooses among the divisions.
    """

    validation: int | None = None
    test: int | None = None
    seed: int = 0


def read_arrays(
    *,
    root: Path,
    path: str = "",
    validation: Natural | None = None,
    test: Natural | None = None,
    seed: int = 0,
) -> Splits | ImageSet:
    """Read a file of arrays, .npz or .npy.

    Its arrays are named as train_images and train_labels, or x_train and y_train; so for test and,
    if it has it, for validation (val). Without parts: images and labels, or x and y.

    Args:
        root: the data root.
        path: the file, absolute or below the root.
        validation: images to hold out for validation; a tenth where nothing is given.
        test: images to hold out for testing; a tenth where nothing is given.
        seed: chooses among the divisions.

    Returns:
        A set of unlabelled images where the file has no labels.

    Raises:
        DataMissing: no such file, or not one of arrays.
        ArenaError: the arrays are no images; the line says what was expected.
    """
    file = root / path
    if not path or not file.is_file():
        raise DataMissing(f"no file {file}; expected arrays in 'path', as .npz or .npy")
    try:
        # opened here, because NumPy leaves a damaged file open
        with file.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
            is_array = isinstance(loaded, np.ndarray)
            arrays = loaded if is_array else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataMissing(f"cannot read the arrays of {file}: {one_line(error)[:150]}") from error
    return as_images(arrays, file.stem, Division(validation, test, seed))


def array_form(
    root: Path, *, path: str = "", **options: object
) -> tuple[tuple[int, int, int], int] | None:
    """Tell shape and classes of a file of labelled arrays; None of one that cannot be read."""
    try:
        found = read_arrays(root=root, path=path)
    except ArenaError:  # told where it is read
        return None
    return None if isinstance(found, ImageSet) else (found.image_shape, found.num_classes)


def as_images(found: object, name: str, division: Division) -> Splits | ImageSet:
    """Turn what holds images into a data set, or into a pool where it has no labels.

    Args:
        found: `Splits`, an `ImageSet`, an array of images, a pair (images, labels), or a mapping:
            of parts ("train", "test", "validation") to such pairs, or of arrays by names as a file
            has them; "classes" may hold the names of the classes.
        name: what the data set is called.
        division: of what has no parts.

    Raises:
        ArenaError: it is none of these; the line says what came.
    """
    if isinstance(found, Splits):
        return found
    if isinstance(found, ImageSet):
        return found if found.classes == UNLABELLED else _divided(found, name, division)
    if isinstance(found, np.ndarray | Tensor):
        return unlabelled(pixels_of(found, name), name)
    if isinstance(found, tuple | list) and len(found) == 2:
        found = {"images": found[0], "labels": found[1]}
    if not isinstance(found, Mapping):
        raise ArenaError(
            f"'{name}': expected images, (images, labels), or parts of them by name, got "
            f"{type(found).__name__}"
        )
    return _of_parts(found, name, division)


def labelled(read: Callable[P, Splits | ImageSet], name: str | None = None) -> Callable[P, Splits]:
    """Return a reader that refuses images without labels, which are no data set.

    Args:
        read: reads a data set or a pool, by keyword.
        name: what the message calls what it read; its parameter `path` if None.
    """

    @wraps(read)
    def reader(*args: P.args, **params: P.kwargs) -> Splits:
        found = read(*args, **params)
        if isinstance(found, ImageSet):
            called = params.get("path") if name is None else name
            raise ArenaError(
                f"'{called}' has images without labels, it can only be a surrogate pool"
            )
        return found

    return reader


def _of_parts(found: Mapping[object, object], name: str, division: Division) -> Splits | ImageSet:
    classes = found.get("classes", found.get("class_names"))
    named = [one.classes for one in found.values() if isinstance(one, ImageSet)]
    if classes is None and named:
        _require_one_order(named, name)
        classes = named[0]
    parts = _parts(found, name)
    if set(parts) == {""} and parts[""][1] is None:
        return unlabelled(pixels_of(parts[""][0], name), name)
    if set(parts) != {""} and not {"train", "test"} <= set(parts):
        raise ArenaError(f"'{name}': expected the parts train and test, got {', '.join(parts)}")
    for part, (_, labels) in parts.items():
        if labels is None:
            raise ArenaError(f"'{name}': the images of part '{part}' have no labels")
    # in whatever order a file lists its parts
    ordered = sorted(parts, key=lambda part: part != "train")
    names = _class_names(classes, [parts[part][1] for part in ordered], name)
    sets = {
        part: _labelled(images, labels, names, f"{name}, {part}" if part else name)
        for part, (images, labels) in parts.items()
    }
    return joined_parts(sets, name, division)


def joined_parts(sets: Mapping[str, ImageSet], name: str, division: Division) -> Splits:
    """Make a data set of parts by name; "" stands for images without parts.

    Raises:
        ArenaError: the images of two parts differ in shape, or their classes in names or order.
    """
    _require_one_order([images.classes for images in sets.values()], name)
    shapes = {part: images.image_shape for part, images in sets.items()}
    if len(set(shapes.values())) > 1:
        raise ArenaError(f"'{name}': the images of its parts differ in shape: {shapes}")
    if "" in sets:
        return _divided(sets[""], name, division)
    train, tested = sets["train"], sets["test"]
    if "validation" in sets:
        return make_splits(name, (train, sets["validation"], tested))
    count = division.validation
    count = max(1, round(len(train) * _HELD_OUT)) if count is None else count
    kept, held = hold_out(train.labels, count, division.seed)
    return make_splits(name, (train.select(kept), train.select(held), tested))


def _require_one_order(classes: Sequence[tuple[str, ...]], name: str) -> None:
    """Refuse parts whose labels mean other classes."""
    if len(set(classes)) > 1:
        first, other = (", ".join(names[:5]) for names in list(dict.fromkeys(classes))[:2])
        raise ArenaError(
            f"'{name}': expected the same classes in one order in every part, got {first} and "
            f"{other}"
        )


def _divided(images: ImageSet, name: str, division: Division) -> Splits:
    share = round(len(images) * _HELD_OUT)
    parts = divide(
        images,
        validation=share if division.validation is None else division.validation,
        test=share if division.test is None else division.test,
        seed=division.seed,
    )
    return make_splits(name, parts)


def _parts(found: Mapping[object, object], name: str) -> dict[str, tuple[object, object | None]]:
    """Collect images and labels of each part, by the names of the arrays."""
    pairs: dict[str, dict[str, object]] = {}
    for key, value in found.items():
        words = [word for word in re.split(r"[^a-z]+", str(key).lower()) if word]
        part = next((_PARTS[word] for word in words if word in _PARTS), "")
        rest = [word for word in words if word not in _PARTS]
        if isinstance(value, ImageSet):
            value = (value.pixels, value.labels)
        if not rest and part and isinstance(value, tuple | list) and len(value) == 2:
            pairs.setdefault(part, {}).update(images=value[0], labels=value[1])
        elif len(rest) == 1 and rest[0] in _IMAGES:
            pairs.setdefault(part, {})["images"] = value
        elif len(rest) == 1 and rest[0] in _LABELS:
            pairs.setdefault(part, {})["labels"] = value
        elif rest == ["arr"] and len(found) == 1:  # what NumPy calls an array without a name
            pairs.setdefault("", {})["images"] = value
    if not pairs or any("images" not in pair for pair in pairs.values()):
        raise ArenaError(
            f"'{name}': expected arrays named images and labels, or train_images, train_labels, "
            f"test_images and test_labels, got {', '.join(map(str, found)) or 'none'}"
        )
    return {part: (pair["images"], pair.get("labels")) for part, pair in pairs.items()}


def unlabelled(pixels: Tensor, name: str) -> ImageSet:
    """Return a pool of images without labels, (n, c, h, w) uint8."""
    labels = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
    return ImageSet(pixels, labels, 1, name, UNLABELLED)


def _labelled(images: object, labels: object, classes: tuple[str, ...], name: str) -> ImageSet:
    pixels, values = pixels_of(images, name), np.atleast_1d(np.asarray(labels))
    values = values.reshape(len(values), -1)
    if values.shape != (len(pixels), 1):
        raise ArenaError(
            f"'{name}': expected one label for each of {len(pixels)} images, got "
            f"{np.asarray(labels).shape}"
        )
    numbers = _numbers(values[:, 0], classes, name)
    return ImageSet(pixels, torch.from_numpy(numbers), len(classes), name, classes)


def _class_names(given: object, labels: Sequence[object], name: str) -> tuple[str, ...]:
    """Return the classes: given, or the texts that label the first part, or numbers."""
    if isinstance(given, np.ndarray | list | tuple):
        return tuple(map(str, given))
    arrays = [np.asarray(part) for part in labels]
    if all(values.dtype.kind in "US" for values in arrays):
        return tuple(sorted(set(_texts(arrays[0].ravel()))))
    for values in arrays:
        if values.dtype.kind not in "iufb" or not np.isfinite(values).all():
            raise ArenaError(
                f"'{name}': expected labels as whole numbers, or texts in every part, got "
                f"{values.dtype}"
            )
    highest = max(int(np.max(values, initial=0)) for values in arrays)
    if highest > 100_000:
        raise ArenaError(f"'{name}': expected labels from 0 to K - 1, got {highest}")
    return tuple(map(str, range(highest + 1)))


def _texts(values: np.ndarray) -> list[str]:
    """Return (n,) texts; bytes are read as UTF-8."""
    found = np.char.decode(values, "utf-8", "replace") if values.dtype.kind == "S" else values
    return [str(one) for one in found]


def _numbers(values: np.ndarray, classes: tuple[str, ...], name: str) -> np.ndarray:
    """Return labels as int64 in 0 .. K-1."""
    if values.dtype.kind in "US":
        texts, number = _texts(values), {label: k for k, label in enumerate(classes)}
        strange = sorted(set(texts) - set(classes))
        if strange:
            raise ArenaError(f"'{name}' has images of class '{strange[0]}'; known: {classes[:20]}")
        return np.array([number[text] for text in texts], dtype=np.int64)
    whole = values.astype(np.int64) if values.dtype.kind in "iufb" else None
    if whole is None or not np.array_equal(whole, values):
        raise ArenaError(f"'{name}': expected labels as whole numbers, got {values.dtype}")
    if len(whole) and not 0 <= whole.min() <= whole.max() < len(classes):
        raise ArenaError(
            f"'{name}': expected labels from 0 to {len(classes) - 1}, got {whole.min()} to "
            f"{whole.max()}"
        )
    return whole
