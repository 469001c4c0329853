"""Reads a layer's width off soft answers: the rank of many of them stacked.

Logits are a linear map of as many numbers as the last layer has inputs, so that centred
log-posteriors of one exit span no more dimensions than that, and one more for the bias. Answers
of several exits span the sum of their spaces: group them by exit before asking.

Source:
    Carlini et al. 2024, arXiv:2403.06634; Finlayson et al. 2024, arXiv:2403.09539.
"""

import numpy as np
import torch
from torch import Tensor

from agents.timing_probe.kmeans import Floats

LEAST_GAP = 10.0
"""Ratio of neighbouring singular values from which a rank is believed."""

_ROUNDING = 1e-5  # of a float32 log-posterior, and some more
_SMALLEST = 1e-30  # below it float32 posteriors lose their relative precision


def hidden_width(posteriors: Tensor) -> int | None:
    """Find how many numbers the layer behind some soft answers works on.

    Args:
        posteriors: (n, K) float32 answers of one exit; at least width + 2 of them.

    Returns:
        The width, or None where it is not identifiable: too few answers or classes (K has to
        exceed the width by more than 2), rounded or perturbed answers.
    """
    usable = posteriors[(posteriors >= _SMALLEST).all(1)].detach().cpu().to(torch.float64)
    if len(usable) < 4 or usable.shape[1] < 5:
        return None
    values = singular_values(usable.numpy())
    if values[0] < _ROUNDING * usable.numel() ** 0.5:
        return None  # every answer is uniform, and what is left is rounding
    # an exact zero would make an infinite gap of rounding
    values = np.maximum(values, values[0] * 1e-14)
    gaps = values[:-1] / values[1:]
    place = int(np.argmax(gaps[2:])) + 3 if len(gaps) > 2 else 0  # values before the gap
    capped = min(len(usable), usable.shape[1] - 1)
    if place == 0 or place >= capped - 1 or gaps[place - 1] < LEAST_GAP:
        return None
    return place - 1


def singular_values(posteriors: Floats) -> Floats:
    """Return the singular values of centred log-posteriors, one redundant column dropped."""
    logs = np.log(posteriors)
    logs -= logs.mean(1, keepdims=True)
    return np.asarray(np.linalg.svd(logs[:, :-1], compute_uv=False))
