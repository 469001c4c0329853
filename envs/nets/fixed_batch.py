"""Runs a network that takes a fixed number of images."""

from collections.abc import Callable

import torch
from torch import Tensor


def in_batches(run: Callable[[Tensor], object], images: Tensor, batch: int | None) -> object:
    """Answer images, so many at once as a network takes.

    Args:
        run: the network.
        images: (n, c, h, w).
        batch: images that it takes, the last ones filled up with black ones; None for any number.
    """
    if batch is None or len(images) == batch:
        return run(images)
    answers = []
    for part in images.split(batch):
        missing = part.new_zeros((batch - len(part), *part.shape[1:]))
        answer = run(torch.cat([part, missing]))
        if not isinstance(answer, Tensor):
            return answer
        answers.append(answer[: len(part)])
    return torch.cat(answers)
