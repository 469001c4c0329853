"""Tells at which checkpoints a clone had been trained: before that its accuracy means nothing."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from arena.log.metric import UNTRAINED

if TYPE_CHECKING:
    from arena.log.rows import CheckpointRow

NOT_YET = "not yet trained"
"""Stands where the accuracy of an untrained clone would."""


def trained_points(checkpoints: "Sequence[CheckpointRow]") -> "list[CheckpointRow]":
    """Keep the measurements of a trained clone, by queries; the last word on a point counts.

    Where a log does not say that a clone was untrained, one that measured the same until a last
    checkpoint with another measurement is taken for trained at the end.
    """
    found = {row.queries_used: row for row in checkpoints if row.clone_accuracy is not None}
    measured = [row for _, row in sorted(found.items())]
    trained = [row for row in measured if row.metrics.get(UNTRAINED) != 1]
    *before, last = [(row.clone_accuracy, row.clone_fidelity) for row in trained] or [(None, None)]
    if len(before) > 1 and len(set(before)) == 1 and before[0] != last:
        return trained[-1:]
    return trained
