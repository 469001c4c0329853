"""CUB-200-2011 and Caltech-256: photographs of many sizes, read from their official folders.

Sources:
    CUB-200-2011: C. Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011, CNS-TR-2011-001.
    Caltech-256: G. Griffin, A. Holub and P. Perona, Caltech-256 Object Category Dataset, 2007.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from envs.data.arrays import Division, joined_parts
from envs.data.folders import classes_in, images_below, read_files
from envs.data.images import ImageSet, Splits
from envs.data.pictures import Size
from envs.data.splits import stable_order
from envs.errors import ArenaError, DataMissing
from envs.ranges import Natural

CUB_FOLDER = "CUB_200_2011"
CUB_LAYOUT = (
    f"the folder {CUB_FOLDER} (images, images.txt, image_class_labels.txt, classes.txt, "
    "train_test_split.txt)"
)
CUB_URL = "https://data.caltech.edu/records/65de6-vp158"
CALTECH_FOLDERS = ("256_ObjectCategories", "caltech256/256_ObjectCategories")
CALTECH_LAYOUT = f"the folder {CALTECH_FOLDERS[0]} (001.ak47 to 257.clutter)"
CALTECH_URL = "https://data.caltech.edu/records/nyy15-4j048"

_TESTED = 25  # images of each class, as in the transfer sets of the extraction literature
_CLUTTER = "257."


def cub200_splits(
    *, root: Path, size: Size = 224, validation: Natural | None = None, seed: int = 0
) -> Splits:
    """Read CUB-200-2011: 5,994 training and 5,794 test images of 200 birds, as divided officially.

    Images are resized so that the shorter side is 256/224 of `size`, and cut out of the middle.

    Args:
        root: the data root, which holds the folder CUB_200_2011.
        size: pixels a side, or (height, width).
        validation: training images to hold out; a tenth where nothing is given.
        seed: chooses among the hold-outs.

    Raises:
        DataMissing: the folder is not there, a list in it is damaged or an image is.
    """
    folder = root / CUB_FOLDER
    if not folder.is_dir():
        raise _missing("CUB-200-2011", root, CUB_LAYOUT, CUB_URL)
    named = dict(_table(folder / "classes.txt"))
    labels = dict(_table(folder / "image_class_labels.txt"))
    trained = dict(_table(folder / "train_test_split.txt"))
    try:
        files = [
            (folder / "images" / path, named[labels[number]], trained[number] == "1")
            for number, path in _table(folder / "images.txt")
        ]
    except KeyError as error:
        raise DataMissing(f"{folder} is damaged: its lists differ about image or class {error}"
                          ) from error  # fmt: skip
    classes = tuple(named.values())

    def part(of_training: bool) -> ImageSet:
        own = [(file, label) for file, label, training in files if training == of_training]
        return read_files(own, classes, "cub200", size=size, cover=True)

    train, test = part(True), part(False)
    division = Division(validation, seed=seed)
    return joined_parts({"train": train, "test": test}, "cub200", division)


def caltech256_splits(
    *, root: Path, size: Size = 224, validation: Natural | None = None, seed: int = 0
) -> Splits:
    """Read Caltech-256 without its clutter: 29,780 images, 25 of each of 256 classes for testing.

    The other 23,380 are the training part, from which `validation` images are held out. Images
    are resized so that the shorter side is 256/224 of `size`, and cut out of the middle.

    Args:
        root: the data root, which holds the folder 256_ObjectCategories.
        size: pixels a side, or (height, width).
        validation: training images to hold out; a tenth where nothing is given.
        seed: chooses among the divisions.

    Raises:
        DataMissing: the folder is not there or an image cannot be read.
        ArenaError: a class has no image beside those for testing.
    """
    folder = next((root / f for f in CALTECH_FOLDERS if (root / f).is_dir()), None)
    if folder is None:
        raise _missing("Caltech-256", root, CALTECH_LAYOUT, CALTECH_URL)
    classes = tuple(name for name in classes_in(folder) if not name.startswith(_CLUTTER))
    files = [(file, name) for name in classes for file in images_below(folder / name)]
    if not files:
        raise DataMissing(f"no images in {folder}; expected {CALTECH_LAYOUT}")
    rest, tested = _divided([label for _, label in files], classes, seed)
    whole = read_files(files, classes, "caltech256", size=size, cover=True)
    train, test = whole.select(rest), whole.select(tested)
    division = Division(validation, seed=seed)
    return joined_parts({"train": train, "test": test}, "caltech256", division)


def _divided(labels: Sequence[str], classes: Iterable[str], seed: int) -> tuple[Tensor, Tensor]:
    """Set `_TESTED` images of every class aside; returns the positions that stay and those."""
    tested = torch.zeros(len(labels), dtype=torch.bool)
    members: dict[str, list[int]] = {name: [] for name in classes}
    for position, label in enumerate(labels):
        members[label].append(position)
    for name, positions in members.items():
        if len(positions) <= _TESTED:
            raise ArenaError(
                f"class '{name}' of Caltech-256 has {len(positions)} images, and {_TESTED} are "
                "for testing; expected more"
            )
        order = stable_order(len(positions), seed)[:_TESTED]
        tested[torch.tensor(positions)[order]] = True
    return (~tested).nonzero().squeeze(1), tested.nonzero().squeeze(1)


def _table(file: Path) -> list[tuple[str, str]]:
    """Read lines of a number and a text."""
    try:
        rows = [line.split(maxsplit=1) for line in file.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise DataMissing(f"no {file}; expected {CUB_LAYOUT}") from error
    if any(len(row) != 2 for row in rows):
        raise DataMissing(f"{file} is damaged: expected lines of a number and a text")
    return [(row[0], row[1].strip()) for row in rows]


def _missing(title: str, root: Path, layout: str, url: str) -> DataMissing:
    return DataMissing(
        f"no {title} in {root}: expected {layout}; get it from {url} and put it there, or say "
        "where it is with 'root' or ARENA_DATA"
    )
