"""Reads the confidence thresholds of early exits off soft answers grouped by exit.

An answer leaves early only above its exit's threshold, so that the least confidence seen among
the answers of an exit comes down to the threshold from above as answers are bought.
"""

from typing import NamedTuple

import torch
from torch import Tensor

_TAIL = 10  # lowest confidences from which their density at the threshold is read
_ALIKE = 0.2  # share of an exit's answers with its least confidence from which that is no limit


class ThresholdEstimates(NamedTuple):
    """ThresholdEstimates of the early exits that answered.

    Attributes:
        values: one per exit but the deepest, confidences.
        excess: by how much each is expected to lie above the true one.
    """

    values: tuple[float, ...]
    excess: tuple[float, ...]


def estimate_thresholds(posteriors: Tensor, exits: Tensor, count: int) -> ThresholdEstimates | None:
    """Estimate the thresholds of all exits but the deepest.

    Args:
        posteriors: (n, K) soft answers.
        exits: (n,) int64, the exit of each, 0 .. count - 1; others are left out.
        count: exits that answered.

    Returns:
        None where an exit gave too few answers or answers alike, whose confidence is somebody's
        choice and no threshold, or there is but one exit.
    """
    confidence = posteriors.amax(1).double()
    values, excess = [], []
    for e in range(count - 1):
        mine = confidence[exits == e]
        lowest = mine.sort().values[: _TAIL + 1]
        if len(lowest) <= _TAIL or are_alike(mine):
            return None
        values.append(float(lowest[0]))
        # spacings of order statistics are exponential with this mean, as is the first excess
        excess.append(float(torch.diff(lowest).mean()))
    return ThresholdEstimates(tuple(values), tuple(excess)) if values else None


def are_alike(confidences: Tensor) -> bool:
    """Tell whether the least of some confidences, at least one, is that of many answers."""
    return bool((confidences == confidences.min()).double().mean() > _ALIKE)
