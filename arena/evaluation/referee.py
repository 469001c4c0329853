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
        fidelity: share of images on which it agrees with the undefended victim.
    """

    accuracy: float
    fidelity: float


class Referee:
    """Scores clones on images that the game shows to no player.

    Clones see the images they are scored on. Those of the checkpoints are none of the test images,
    so that what a clone keeps during the attack tells nothing about the final score.

    Args:
        checkpoint: what clones are measured on along the budget, on the device.
        test: what the final clone is scored on, on the device.
        victim: the undefended victim.

    Attributes:
        test: as given.
        posteriors: (n, K) float32, the undefended victim's answers to the test images.
        victim_accuracy: its share of right labels on them.
    """

    def __init__(self, checkpoint: ImageSet, test: ImageSet, victim: Victim) -> None:
        self._checkpoint, self.test = checkpoint, test
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

    def _scored(self, clone: nn.Module, images: ImageSet, victim_labels: Tensor) -> CloneScore:
        labels = clone_labels(clone, images.pixels, self.posteriors.shape[1])
        with without_overrides():
            return CloneScore(_share(labels == images.labels), _share(labels == victim_labels))


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / len(hits)


def _in_batches(answer: object, test: ImageSet, batch: int = 256) -> Tensor:
    assert callable(answer)
    parts = [
        answer(test.images(slice(start, start + batch))) for start in range(0, len(test), batch)
    ]
    return torch.cat(parts)
