"""The referee: scores what attackers hand over, without changing the episode."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.data.images import ImageSet
from envs.plain_tensors import without_overrides
from envs.training.evaluation import clone_labels
from envs.victim.victim import Victim


class CloneScore(NamedTuple):
    """What a clone is worth, both in [0, 1].

    Attributes:
        accuracy: share of right labels.
        fidelity: share of images on which it agrees with the undefended victim; None where that
            one was not asked.
    """

    accuracy: float
    fidelity: float | None


class Referee:
    """Scores clones on images that the game shows to no player.

    Clones see the images they are scored on. Those of the checkpoints are none of the test images,
    so that what a clone keeps during the attack tells nothing about the final score.

    Args:
        checkpoint: what clones are measured on along the budget, on the device.
        test: what the final clone is scored on, on the device.
        victim: the undefended victim; one that runs elsewhere is not asked, because every image
            would be charged.

    Attributes:
        test: as given.
        posteriors: (n, K) float32, the undefended victim's answers to the test images; None where
            it is not asked.
        victim_accuracy: its share of right labels on them; likewise.
    """

    def __init__(self, checkpoint: ImageSet, test: ImageSet, victim: Victim) -> None:
        self._checkpoint, self.test = checkpoint, test
        self._classes = victim.num_classes
        self.posteriors: Tensor | None = None
        self.victim_accuracy: float | None = None
        self._checkpoint_labels: Tensor | None = None
        self._labels: Tensor | None = None
        if victim.is_remote:
            return
        self._checkpoint_labels = _in_batches(victim.posteriors, checkpoint).argmax(1)
        self.posteriors = _in_batches(victim.posteriors, test)
        self._labels = self.posteriors.argmax(1)
        self.victim_accuracy = _share(self._labels == test.labels)

    def score_checkpoint(self, clone: nn.Module) -> CloneScore:
        """Measure a clone along the budget; see `score`."""
        return self._scored(clone, self._checkpoint, self._checkpoint_labels)

    def score(self, clone: nn.Module) -> CloneScore:
        """Score the final clone; mode, weights and every random stream stay as they were.

        Raises:
            PlayerError: the clone's answers are not (n, classes) finite numbers.
        """
        return self._scored(clone, self.test, self._labels)

    def _scored(
        self, clone: nn.Module, images: ImageSet, victim_labels: Tensor | None
    ) -> CloneScore:
        labels = clone_labels(clone, images.pixels, self._classes)
        with without_overrides():
            agrees = None if victim_labels is None else _share(labels == victim_labels)
            return CloneScore(_share(labels == images.labels), agrees)


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / len(hits)


def _in_batches(answer: object, test: ImageSet, batch: int = 256) -> Tensor:
    assert callable(answer)
    parts = [
        answer(test.images(slice(start, start + batch))) for start in range(0, len(test), batch)
    ]
    return torch.cat(parts)
