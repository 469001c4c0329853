"""Real handwritten digits, 8x8, out of scikit-learn: the data set that needs no download.

Source:
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998; its 1,797 test images are part of scikit-learn.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from annotated_types import Ge
from numpy.typing import NDArray

from envs.data.images import ImageSet, Splits
from envs.data.resize import fit_to, pad_to
from envs.data.splits import divide, make_splits
from envs.errors import ArenaError
from envs.ranges import Side

_VALIDATION, _TEST, _SEED = 300, 600, 0


def digits_splits(
    *, size: Annotated[Side, Ge(8)] = 8, fit: Literal["pad", "stretch"] = "pad"
) -> Splits:
    """Read the digits, divided for good into 897 training, 300 validation and 600 test images.

    Of the test images 120 are the benign users' and 120 the checkpoints', 360 remain for the final
    score. The division is stratified and never changes, because cached victims and published
    tables rest on it. Values 0 to 16 become `round(255 v / 16)`, which loses nothing.

    Args:
        size: pixels a side.
        fit: how a larger size is filled: "pad" puts black around the digits, "stretch" enlarges
            them smoothly.

    Raises:
        ArenaError: `size` is below 8, or `fit` is neither.
    """
    if fit not in ("pad", "stretch"):
        raise ArenaError(f"expected fit 'pad' or 'stretch', got {fit!r}")
    rows = torch.from_numpy(_rows())
    levels = rows[:, :-1].reshape(-1, 1, 8, 8)
    small = ((levels * 255 + 8) // 16).to(torch.uint8)
    enlarge = fit == "stretch" and size > small.shape[-1]
    pixels = fit_to(small, (1, size, size)) if enlarge else pad_to(small, size)
    labels = rows[:, -1]
    digits = ImageSet(pixels, labels, 10, "digits", tuple("0123456789"))
    return make_splits("digits", divide(digits, validation=_VALIDATION, test=_TEST, seed=_SEED))


def _rows() -> NDArray[np.int64]:
    """Read 1,797 rows of 64 grey levels, 0 to 16, and a label.

    Out of the installed package's file: importing scikit-learn, with scipy.stats and pandas, takes
    longer than a short episode.
    """
    package = find_spec("sklearn")
    assert package is not None, "scikit-learn is a dependency"
    file = Path(str(package.origin)).with_name("datasets") / "data" / "digits.csv.gz"
    if file.is_file():
        return np.loadtxt(file, delimiter=",", dtype=np.int64)
    from sklearn.datasets import load_digits

    raw = load_digits()
    return np.column_stack([raw.data, raw.target]).astype(np.int64)
