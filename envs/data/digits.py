"""Real handwritten digits, 8x8, out of scikit-learn: the data set that needs no download.

Source:
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998; its 1,797 test images are part of scikit-learn.
"""

import torch

from envs.data.fitting import pad_to
from envs.data.images import ImageSet, Splits, make_splits
from envs.data.splitting import divide

_VALIDATION, _TEST, _SEED = 300, 600, 0


def digits_splits(*, size: int = 8) -> Splits:
    """Read the digits, divided for good into 897 training, 300 validation and 600 test images.

    The division is stratified and never changes, because cached victims and published tables
    rest on it. Values 0 to 16 become `round(255 v / 16)`, which loses nothing.

    Args:
        size: pixels a side; above 8 the digits are padded with black.

    Raises:
        ArenaError: `size` is below 8.
    """
    from sklearn.datasets import load_digits  # takes a second; not every scenario plays on digits

    raw = load_digits()
    levels = torch.from_numpy(raw.images).to(torch.int64).unsqueeze(1)  # (1797, 1, 8, 8), 0..16
    pixels = pad_to(((levels * 255 + 8) // 16).to(torch.uint8), size)
    labels = torch.from_numpy(raw.target).to(torch.int64)
    digits = ImageSet(pixels, labels, 10, "digits", tuple("0123456789"))
    return make_splits("digits", divide(digits, validation=_VALIDATION, test=_TEST, seed=_SEED))
