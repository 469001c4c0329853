"""Follows exits and service along the budget: the rounds of an episode in slices of equal size."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from arena.log.rows import EpisodeRow, Exits, RoundAnswers, RoundRow, added_exits

SLICES = 20
"""Parts of the budget that are told apart; a log keeps at most a hundred."""


class Slice(NamedTuple):
    """What happened in one part of the budget.

    Attributes:
        attack, benign: images per exit, of each deployed defence.
        answered, right: benign images, and those of them answered with their label's class.
    """

    attack: Exits
    benign: Exits
    answered: int
    right: int


def slices_of(budget: int, rounds: Iterable[RoundRow | RoundAnswers]) -> dict[int, Slice]:
    """Sum the rounds of an episode by the slice of the budget in which they ended, from 0."""
    found: dict[int, Slice] = {}
    for row in rounds:
        index = min(SLICES - 1, max(0, row.queries_used - 1) * SLICES // max(1, budget))
        one = Slice(
            row.attack_exits or (), row.benign_exits or (), row.benign_answered, row.benign_correct
        )
        before = found.get(index)
        found[index] = one if before is None else _sum(before, one)
    return found


def _sum(one: Slice, other: Slice) -> Slice:
    return Slice(
        added_exits(one.attack, other.attack),
        added_exits(one.benign, other.benign),
        one.answered + other.answered,
        one.right + other.right,
    )


def early_share(exits: Exits) -> float | None:
    """Tell which share of images left before the last exit of its network; None without any."""
    total = sum(map(sum, exits))
    return (total - sum(row[-1] for row in exits if row)) / total if total else None


def right_share(part: Slice, episode: EpisodeRow) -> float | None:
    """Tell which share of benign answers was right, of the images that have a right answer.

    How many had none is known on the mean alone: it is the scenario's share of odd images.
    """
    traffic = episode.plan.get("traffic")
    odd = traffic.get("ood_share", 0.0) if isinstance(traffic, dict) else 0.0
    judged = part.answered * (1 - float(odd))
    return min(1.0, part.right / judged) if judged else None


def changes(values: Sequence[float], answered: float) -> bool:
    """Tell whether a share changes along the budget by more than chance makes it seem.

    Args:
        values: of the slices.
        answered: images behind each of them, on the mean.

    Returns:
        True where they lie more than 5 points and six standard errors apart: chance rarely
        throws twenty slices that far.
    """
    if not values or not answered:
        return False
    middle = sum(values) / len(values)
    error = math.sqrt(max(middle * (1 - middle), 1e-4) / answered)
    return max(values) - min(values) > max(0.05, 6 * error)
