"""Tells exits from answers that something held up: a pause of the server, a packet sent again.

Such answers form a peak of their own where the pauses are alike. But they hit any image at any
time, where an exit is a function of the image.
"""

import numpy as np

from agents.timing_probe.kmeans import Floats, Ints
from agents.timing_probe.mixture import ExitCount

_FAR = 5  # deviations of the reference's times
_LEAST = 1e-3  # of log-times; an exact clock has no deviation
_AS_OFTEN = 0.25  # of a peak's share of the images; an exit of others has none of the references
_VARIED = 3  # times the spread of repeats of other images


def strays_like(references: Floats, count: ExitCount) -> bool:
    """Tell whether a reference shows a peak of other exits about as often as images do.

    Args:
        references: (m,) log-times of answers to one image, at least one.
        count: of the exits, from single answers to distinct images.
    """
    middle = float(np.median(references))
    away = np.abs(references - middle)
    far = away > _FAR * max(1.4826 * float(np.median(away)), _LEAST)
    own = int(count.assign(np.asarray([middle]))[0][0])
    shown = count.assign(references[far])[0]
    return any(
        (shown == peak).sum() >= _AS_OFTEN * count.peaks.weights[peak] * len(references)
        for peak in set(shown.tolist()) - {-1, own}
    )


def held_up(logs: Floats, labels: Ints, count: ExitCount) -> bool:
    """Tell whether repeats of the images of a peak disagree, where those of others agree.

    Args:
        logs: (n, repeats) log-times, 2 repeats or more.
        labels: (n,) the peak of each image, -1 for none.
        count: of the exits.
    """
    spread = logs.std(1)
    common = int(np.bincount(labels[labels >= 0], minlength=1).argmax())
    usual = max(float(np.median(spread[labels == common], axis=0)), _LEAST)
    means = count.peaks.means
    for peak in set(labels.tolist()) - {-1, common}:
        apart = float(np.abs(np.delete(means, peak) - means[peak]).min())
        own = float(np.median(spread[labels == peak]))
        if own > _VARIED * usual and own > apart / 2:
            return True
    return False
