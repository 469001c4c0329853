"""Data sets of the Hugging Face library `datasets`, as `save_to_disk` writes them to a folder.

`datasets` is imported when one is read. Nothing is fetched.
"""

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from envs.data.arrays import UNLABELLED, Division, joined_parts, unlabelled
from envs.data.images import ImageSet, Splits
from envs.data.pictures import Picture, Size, decoded, height_width, stacked
from envs.errors import ArenaError, DataMissing, one_line
from envs.ranges import Natural

# `Any` in this file: what `datasets` hands out.

_PARTS = {"train": "train", "test": "test", "validation": "validation", "val": "validation",
          "valid": "validation"}  # fmt: skip


def read_saved(
    *,
    root: Path,
    path: str = "",
    image: str | None = None,
    label: str | None = None,
    size: Size | None = None,
    grey: bool = False,
    validation: Natural | None = None,
    test: Natural | None = None,
    seed: int = 0,
) -> Splits | ImageSet:
    """Read a saved data set with a column of images and one of class labels.

    Its splits train and test are the parts, with validation if it is there; a data set without
    splits is divided as a folder of images is.

    Args:
        root: the data root.
        path: the folder, absolute or below the root.
        image: name of the column of images; the only one of that kind where nothing is given.
        label: name of the column of labels; likewise.
        size: pixels a side, or (height, width); needed where the images differ in size.
        grey: read the images as grey ones.
        validation: images to hold out for validation; a tenth where nothing is given.
        test: images to hold out for testing; a tenth where nothing is given.
        seed: chooses among the divisions.

    Returns:
        A set of unlabelled images where it has no splits and no column of labels.

    Raises:
        DataMissing: no such folder, a damaged one, or `datasets` is not installed.
        ArenaError: it has no such columns or parts, or images differ in size.
    """
    folder = root / path
    name = folder.resolve().name
    tables = _tables(folder)
    sets = {
        part: _images(table, image, label, name, decode=partial(decoded, size=height_width(size),
                                                                grey=grey, cover=False))
        for part, table in tables.items()
    }  # fmt: skip
    if set(sets) == {""} and sets[""].classes == UNLABELLED:
        return sets[""]
    if set(sets) != {""} and not {"train", "test"} <= set(sets):
        raise ArenaError(f"'{name}': expected the splits train and test, got {', '.join(sets)}")
    for part, images in sets.items():
        if images.classes == UNLABELLED:
            raise ArenaError(f"'{name}': the images of split '{part}' have no labels")
    return joined_parts(sets, name, Division(validation, test, seed))


def is_saved_part(file: Path) -> bool:
    """Tell whether a file of such a folder bears on its images; one notes how it was made."""
    return file.name != "state.json"


def _tables(folder: Path) -> dict[str, Any]:
    """Open the splits of a folder; "" stands for a data set without splits."""
    if not folder.is_dir():
        raise DataMissing(f"no folder {folder}; expected a data set that save_to_disk wrote there")
    try:
        import datasets
    except ImportError as error:
        raise DataMissing(
            f"{folder} needs the library datasets; pip install 'fortress-arena[datasets]'"
        ) from error
    try:
        found: Any = datasets.load_from_disk(str(folder))
    except Exception as error:  # of several libraries
        raise DataMissing(
            f"{folder} is no data set that save_to_disk wrote: {one_line(error)[:150]}"
        ) from error
    if not isinstance(found, Mapping):
        return {"": found}
    return {_PARTS[name]: table for name, table in found.items() if name in _PARTS}


def _images(
    table: Any, image: str | None, label: str | None, name: str, *, decode: Any
) -> ImageSet:
    import datasets

    column = _column(table, image, datasets.Image, "images", name)
    if column is None:
        raise ArenaError(f"'{name}': no column of images; it has {', '.join(table.features)}")
    raw = table.cast_column(column, datasets.Image(decode=False))
    files = (_picture(row, f"{n} of '{name}'") for n, row in enumerate(raw[column]))
    pixels = stacked(files, len(raw), decode)
    labels = _column(table, label, datasets.ClassLabel, "class labels", name)
    if labels is None:
        return unlabelled(pixels, name)
    names = tuple(table.features[labels].names)
    given = list(table[labels])
    if any(one is None or one < 0 for one in given):
        raise ArenaError(f"'{name}': some images have no label (-1, None) in the column '{labels}'")
    values = torch.tensor(given, dtype=torch.int64)
    return ImageSet(pixels, values, len(names), name, names)


def _column(table: Any, given: str | None, kind: type, what: str, name: str) -> str | None:
    """Find a column by name, or the only one of its kind; None where there is none."""
    found = [column for column, feature in table.features.items() if isinstance(feature, kind)]
    if given is not None and given not in found:
        there = f"the columns of {what} are {found}" if found else f"there is no column of {what}"
        raise ArenaError(f"'{name}': no column '{given}' of {what}; {there}")
    if given is None and len(found) > 1:
        raise ArenaError(f"'{name}': several columns of {what}, {', '.join(found)}; name one")
    return given or (found[0] if found else None)


def _picture(row: Mapping[str, Any] | None, name: str) -> Picture:
    if row is None:
        raise DataMissing(f"image {name} is missing; leave its row out")
    data = row["bytes"]
    return Picture(row["path"] if data is None else io.BytesIO(data), name)
