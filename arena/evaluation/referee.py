"""The referee: measures what the players' work is worth, without changing the episode."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from envs.data.images import ImageSet
from envs.defences.base import DeployedDefence
from envs.game.clients import ClientNumbers
from envs.game.clocks import Untimed
from envs.game.rounds import DefenderProtocol
from envs.game.service import Service
from envs.plain_tensors import without_overrides
from envs.seeding import Streams
from envs.training.evaluation import clone_labels
from envs.types import Labels
from envs.victim.victim import Victim


class CloneScore(NamedTuple):
    """What a clone is worth, both in [0, 1].

    Attributes:
        accuracy: share of right labels.
        fidelity: share of images on which it agrees with the undefended victim.
    """

    accuracy: float
    fidelity: float


class ServiceScore(NamedTuple):
    """What benign users get on the defended way, over the test set.

    Attributes:
        accuracy: share of right labels, in [0, 1].
        agreement: share of answers whose label is the undefended victim's, in [0, 1].
        distortion_mean, distortion_p95: L1 distance of a served posterior from the undefended
            victim's ("effective epsilon"), 0 to 2.
        exits: answers by exit.
    """

    accuracy: float
    agreement: float
    distortion_mean: float
    distortion_p95: float
    exits: tuple[int, ...]


class Referee:
    """Scores clones and service on images that the game shows to no player.

    Clones see the images they are scored on. Those of the checkpoints are none of the test images,
    so that what a clone keeps during the attack tells nothing about the final score. The service
    is scored at the end, by a copy of the defender.

    Args:
        checkpoint: what clones are measured on along the budget, on the device.
        test: what the final clone and the service are scored on, on the device.
        victim: the undefended victim.
    """

    def __init__(self, checkpoint: ImageSet, test: ImageSet, victim: Victim) -> None:
        self._checkpoint, self._test = checkpoint, test
        self._checkpoint_labels = _in_batches(victim.posteriors, checkpoint).argmax(1)
        self._posteriors = _in_batches(victim.posteriors, test)
        self._labels = self._posteriors.argmax(1)
        self.victim_accuracy = _share(self._labels == test.labels)

    def score_checkpoint(self, clone: nn.Module) -> CloneScore:
        """Measure a clone along the budget; see `score`."""
        return self._scored(clone, self._checkpoint, self._checkpoint_labels)

    def score(self, clone: nn.Module) -> CloneScore:
        """Score the final clone; mode, weights and every random stream stay as they were.

        Raises:
            PlayerError: the clone's answers are not (n, classes) finite numbers.
        """
        return self._scored(clone, self._test, self._labels)

    def _scored(self, clone: nn.Module, images: ImageSet, victim_labels: Tensor) -> CloneScore:
        labels = clone_labels(clone, images.pixels, self._posteriors.shape[1])
        with without_overrides():
            return CloneScore(_share(labels == images.labels), _share(labels == victim_labels))

    def score_service(
        self,
        deployed_defences: Sequence[DeployedDefence],
        defender: DefenderProtocol,
        *,
        streams: Streams,
        labels: Labels,
        answered: int = 0,
        rounds: int = 0,
        batch: int = 256,
    ) -> ServiceScore:
        """Ask the whole test set along the defended way, as one more benign client.

        The defender is copied first, and clock and random stream are the referee's own, so that
        the episode does not notice. The copy goes on from where the episode stands.

        Args:
            deployed_defences: the defences.
            defender: who decides.
            streams: of the episode.
            labels: what is served.
            answered: images the defender has answered so far.
            rounds: rounds played so far; the referee's requests count on.
            batch: images a request.
        """
        service = Service(
            deployed_defences,
            copy.deepcopy(defender),
            clock=Untimed(),
            generator=streams.torch("referee", self._posteriors.device),
            labels=labels,
            answered=answered,
        )
        client = ClientNumbers(streams).referee
        served = [
            service.answer(
                self._test.images(slice(start, start + batch)), client=client, round=index
            )
            for index, start in enumerate(range(0, len(self._test), batch), rounds)
        ]
        posteriors = torch.cat([request.posteriors for request in served])
        exits = torch.cat([request.exits for request in served])
        return self._summarise(posteriors, exits, deployed_defences)

    def _summarise(
        self, served: Tensor, exits: Tensor, deployed_defences: Sequence[DeployedDefence]
    ) -> ServiceScore:
        labels = served.argmax(1)
        distance = (served.double() - self._posteriors.double()).abs().sum(1)
        count = max(deployed_defence.victim.num_exits for deployed_defence in deployed_defences)
        return ServiceScore(
            accuracy=_share(labels == self._test.labels),
            agreement=_share(labels == self._labels),
            distortion_mean=float(distance.mean()),
            distortion_p95=float(distance.quantile(0.95)),
            exits=tuple(torch.bincount(exits, minlength=count).tolist()),
        )


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / len(hits)


def _in_batches(answer: object, test: ImageSet, batch: int = 256) -> Tensor:
    assert callable(answer)
    parts = [
        answer(test.images(slice(start, start + batch))) for start in range(0, len(test), batch)
    ]
    return torch.cat(parts)
