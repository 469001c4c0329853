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

    A clone that measures the same at several of them may have collapsed: that says nothing.
    """
    found = {row.queries_used: row for row in checkpoints if row.clone_accuracy is not None}
    measured = (row for _, row in sorted(found.items()))
    return [row for row in measured if row.metrics.get(UNTRAINED) != 1]
