"""Any folder of images with one subfolder per class, and Tiny-ImageNet in that form.

Source:
    Tiny-ImageNet is the subset of ImageNet made for the course CS231n at Stanford, 2015: 200
    classes, 64x64 pixels.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from envs.data.arrays import UNLABELLED, Division, joined_parts
from envs.data.images import ImageSet, Splits
from envs.data.pictures import Picture, Size, decoded, height_width, sides_of, stacked
from envs.errors import ArenaError, DataMissing
from envs.ranges import Natural

# `Any` in this file: options that are forwarded.

TINY_FOLDER = "tiny-imagenet-200"
TINY_LAYOUT = f"the folder {TINY_FOLDER} (train, val)"
TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"

_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"}
)
_VALIDATION_NAMES = ("validation", "val", "valid")
_PART_NAMES = {"train", "training", "test", "testing", *_VALIDATION_NAMES}


def folder_splits(
    *,
    root: Path,
    path: str | None = None,
    size: Size | None = None,
    grey: bool = False,
    validation: Natural | None = None,
    test: Natural | None = None,
    seed: int = 0,
) -> Splits:
    """Read a folder of images, CLASS/*.png or .jpg, as a labelled data set.

    Where the folder has the subfolders `train` and `test`, they are the parts, with `validation`
    (or `val`) as the third if it is there. What is missing is held out, stratified and fixed by
    `seed`.

    Args:
        root: the data root.
        path: the folder, absolute or below the root; the root itself where nothing is given.
        size: pixels a side, or (height, width); needed where the images differ in size.
        grey: read the images as grey ones.
        validation: images to hold out for validation; a tenth where nothing is given.
        test: images to hold out for testing; a tenth where nothing is given.
        seed: chooses among the divisions.

    Raises:
        DataMissing: no such folder, no images in it, or an image that cannot be read.
        ArenaError: the images differ in size, the division leaves nothing, or parts have other
            names than these.
    """
    _require_classes(root / path if path is not None else root)
    return _splits(root, path, size, grey, Division(validation, test, seed))


def _splits(
    root: Path, path: str | None, size: Size | None, grey: bool, division: Division
) -> Splits:
    folder = root / path if path is not None else root
    name = folder.resolve().name
    if not ((folder / "train").is_dir() and (folder / "test").is_dir()):
        sets = {"": read_folder(folder, name, size=size, grey=grey)}
    else:
        train = read_folder(folder / "train", name, size=size, grey=grey)
        part = partial(read_folder, name=name, size=size, grey=grey, classes=train.classes)
        sets = {"train": train, "test": part(folder / "test")}
        own = [folder / held for held in _VALIDATION_NAMES if (folder / held).is_dir()]
        if own:
            sets["validation"] = part(own[0])
    return joined_parts(sets, name, division)


def _require_classes(folder: Path) -> None:
    """Refuse parts that would be taken for classes, because they are not called train and test."""
    tops = classes_in(folder) if folder.is_dir() else ()
    if not tops or {"train", "test"} <= set(tops) or not {t.lower() for t in tops} <= _PART_NAMES:
        return
    if any(classes_in(folder / top) for top in tops):
        raise ArenaError(
            f"{folder} holds {', '.join(tops)}, which look like parts, with the classes in them; "
            f"expected train and test (and validation, or val), or a folder for each class: rename "
            f"them"
        )


def folder_pool(
    *,
    root: Path,
    victim_shape: tuple[int, int, int],
    path: str | None = None,
    size: Size | None = None,
    grey: bool = False,
    **division: Any,
) -> Splits | ImageSet:
    """Read a folder of images as a pool: one with classes, or one that just holds images.

    Args:
        root: the data root.
        victim_shape: of the victim's queries; without `size`, images without classes are read so.
        path: see `folder_splits`, as all others.
        size: likewise.
        grey: likewise.
        **division: likewise.

    Returns:
        A set of unlabelled images where the folder has no classes.
    """
    folder = root / path if path is not None else root
    if not is_flat(folder):
        return _splits(root, path, size, grey, Division(**division))  # whose labels say nothing
    name = folder.resolve().name
    files = [(file, UNLABELLED[0]) for file in images_below(folder)]
    return read_files(files, UNLABELLED, name, size=size or victim_shape[1:], grey=grey)


def is_flat(folder: Path) -> bool:
    """Tell whether images lie in a folder itself, and no folder in it holds any."""
    if not folder.is_dir() or any(images_below(folder / name) for name in classes_in(folder)):
        return False
    return bool(images_below(folder))


def tiny_imagenet_splits(
    *, root: Path, size: Size = 64, validation: Natural | None = None, seed: int = 0
) -> Splits:
    """Read Tiny-ImageNet, or a part of it; its official validation images are the test images.

    Both forms of the set are read: with a folder per class in `val`, and as it is distributed,
    with `val/val_annotations.txt`.

    Args:
        root: the data root, which holds `tiny-imagenet-200`.
        size: pixels a side, or (height, width); the files have 64.
        validation: training images to hold out; a tenth where nothing is given.
        seed: chooses among the hold-outs.

    Raises:
        DataMissing: the folder is not there or an image cannot be read.
    """
    folder = root / TINY_FOLDER
    name = "tiny-imagenet"
    train = read_folder(folder / "train", name, size=size)
    listed = folder / "val" / "val_annotations.txt"
    if listed.is_file():
        tested = _annotated(folder / "val", listed, size=size, classes=train.classes)
    else:
        tested = read_folder(folder / "val", name, size=size, classes=train.classes)
    return joined_parts({"train": train, "test": tested}, name, Division(validation, seed=seed))


def read_folder(
    folder: Path,
    name: str,
    *,
    size: Size | None = None,
    grey: bool = False,
    classes: tuple[str, ...] | None = None,
) -> ImageSet:
    """Read CLASS/**/*.png (or another kind of image) into one set, classes and files in name order.

    Args:
        folder: the folder with one subfolder per class.
        name: what the set is called.
        size: pixels a side, or (height, width); the files' own where nothing is given.
        grey: read the images as grey ones.
        classes: the class names of the training part; found in the folder where none are given.
    """
    if not folder.is_dir():
        raise DataMissing(
            f"no folder {folder}; expected images in it as CLASS/FILE.png or .jpg: put them "
            "there, or say where they are with 'root' or ARENA_DATA"
        )
    found = classes_in(folder)
    files = {label: images_below(folder / label) for label in found}
    if not any(files.values()):
        raise DataMissing(f"no images in {folder}; expected CLASS/FILE.png or .jpg below it")
    if classes is None:
        classes = found
        empty = [label for label in found if not files[label]]
        if empty:
            raise DataMissing(
                f"no images in {folder / empty[0]}, which would be a class without examples; put "
                f"some there, or remove the folder"
            )
    pairs = [(file, label) for label in found for file in files[label]]
    return read_files(pairs, classes, name, size=size, grey=grey)


def folder_form(
    root: Path,
    *,
    path: str | None = None,
    size: Size | None = None,
    grey: bool = False,
    **options: object,
) -> tuple[tuple[int, int, int], int] | None:
    """Tell shape and classes of a folder from its names and the first image; None without one."""
    folder = root / path if path is not None else root
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        folder = folder / "train"
    try:
        _require_classes(folder)
    except ArenaError:  # told where it is read
        return None
    classes = classes_in(folder) if folder.is_dir() else ()
    sides = height_width(size)
    if sides is None:
        first = next((file for label in classes for file in images_below(folder / label)), None)
        sides = None if first is None else sides_of(first)
    return None if sides is None or not classes else ((1 if grey else 3, *sides), len(classes))


def classes_in(folder: Path) -> tuple[str, ...]:
    """List the names of the class folders, sorted; those that systems hide are none."""
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not is_hidden(p.name)))


def is_hidden(name: str) -> bool:
    """Tell by its name whether a system hides a file or folder."""
    return name.startswith(".") or name == "__MACOSX"


def images_below(folder: Path) -> list[Path]:
    """List the image files below a folder, in name order, without what systems hide."""
    return sorted(
        path
        for path in folder.rglob("*")
        if is_image(path)
        and not any(map(is_hidden, path.relative_to(folder).parts))
        and path.is_file()
    )


def is_image(path: Path) -> bool:
    """Tell by its name whether a file is read as an image."""
    return path.suffix.lower() in _SUFFIXES


def _annotated(folder: Path, listed: Path, *, size: Size, classes: tuple[str, ...]) -> ImageSet:
    """Read the official validation part: a line says FILE<tab>CLASS<tab>box."""
    rows = [line.split("\t") for line in listed.read_text().splitlines() if line.strip()]
    if any(len(row) < 2 for row in rows):
        raise DataMissing(f"{listed} is damaged: expected lines of FILE, tab, CLASS")
    files = [(folder / "images" / row[0], row[1]) for row in rows]
    return read_files(files, classes, "tiny-imagenet", size=size, grey=False)


def read_files(
    files: Sequence[tuple[Path, str]],
    classes: tuple[str, ...],
    name: str,
    *,
    size: Size | None,
    grey: bool = False,
    cover: bool = False,
) -> ImageSet:
    """Read files with their class names into one set.

    Args:
        files: each with the name of its class.
        classes: the names, in the order of the labels.
        name: what the set is called.
        size: pixels a side, or (height, width); the files' own where nothing is given.
        grey: read the images as grey ones.
        cover: keep the aspect: resize until a frame of 256/224 of `size` is covered, and cut the
            middle out, as the ImageNet networks are tested. Otherwise the whole image is resized.

    Raises:
        DataMissing: an image cannot be read.
        ArenaError: a class name is not among `classes`, or images differ in size.
    """
    strange = {label for _, label in files} - set(classes)
    if strange:
        raise ArenaError(
            f"'{name}' has test images of class '{min(strange)}', which has no training images"
        )
    number = {label: k for k, label in enumerate(classes)}
    decode = partial(decoded, size=height_width(size), grey=grey, cover=cover)
    pictures = (Picture(file, str(file)) for file, _ in files)
    pixels = stacked(pictures, len(files), decode)
    labels = torch.tensor([number[label] for _, label in files], dtype=torch.int64)
    return ImageSet(pixels, labels, len(classes), name, classes)
