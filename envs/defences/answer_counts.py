"""Counts how a fortress answers one kind of traffic: where it leaves, and with which class."""

from typing import NamedTuple

import torch
from torch import Tensor

from envs.victim.victim import Victim


class EarlyAnswers(NamedTuple):
    """How one kind of traffic is answered.

    Attributes:
        exits: share of the images by exit.
        classes: share of the answers before the last exit by class; zeros if there are none.
    """

    exits: tuple[float, ...]
    classes: tuple[float, ...]


def early_answers(fortress: Victim, images: Tensor, generator: torch.Generator) -> EarlyAnswers:
    """Answer images and count exits, and the classes of those who left before the last."""
    answer = fortress.answer(images, generator=generator)
    last = fortress.num_exits - 1
    exits = torch.bincount(answer.exits, minlength=last + 1).double() / len(images)
    labels = answer.posteriors[answer.exits < last].argmax(1)
    classes = torch.bincount(labels, minlength=fortress.num_classes).double()
    classes /= max(1, len(labels))
    return EarlyAnswers(tuple(exits.tolist()), tuple(classes.tolist()))
