"""What benign users get: the test images, asked along the defended way during the episode."""

import copy
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from agents.base import DefenderKit
from envs.data.images import ImageSet
from envs.defences.base import DeployedDefence
from envs.defences.initial_state import copied
from envs.game.clients import ClientNumbers
from envs.game.clocks import Untimed
from envs.game.rounds import DefenderProtocol, Round
from envs.game.service import Service
from envs.game.standings import Standings
from envs.seeding import Streams
from envs.types import Labels

LOOKS = 10
"""So often in an episode test images are asked: each look copies the defender's state."""

_REQUEST = 32  # images of a request at most: what one benign user asks in a row


class ServiceScore(NamedTuple):
    """What benign users get on the defended way, over the test set.

    Attributes:
        accuracy: share of right labels, in [0, 1]; an image that is refused has none.
        agreement: share of answers whose label is the undefended victim's, in [0, 1].
        distortion_mean, distortion_p95: L1 distance of a served posterior from the undefended
            victim's ("effective epsilon"), 0 to 2; 1 where an image is refused.
    """

    accuracy: float
    agreement: float
    distortion_mean: float
    distortion_p95: float


class ServiceMeasurement:
    """Asks each test image once, as benign users in turn, spread evenly over the query budget.

    Each look asks copies of the defender and of its defences, as they stand then, so that the
    episode does not notice, and a defender that serves well only late or only strangers gains
    nothing. Its random stream is its own ("referee").

    Args:
        test: the test images, on the device.
        posteriors: (n, K) float32, the undefended victim's answers to them.
        deployed_defences: the defences.
        defender: decides.
        budget: attack queries of the episode.
        streams: of the episode.
        labels: what is served.
        clients: benign users; one more user asks where there are none.
        accounts: of the attacker.
        kit: what the defender was lent, which its copies share as far as nobody writes into it.
        standings: gives the server's clock as it stands.
    """

    def __init__(
        self,
        test: ImageSet,
        posteriors: Tensor,
        deployed_defences: Sequence[DeployedDefence],
        defender: DefenderProtocol,
        *,
        budget: int,
        streams: Streams,
        labels: Labels,
        clients: int,
        accounts: int = 1,
        kit: DefenderKit | None = None,
        standings: Callable[[], Standings] = Standings,
    ) -> None:
        self._test, self._posteriors = test, posteriors
        self._deployed_defences, self._defender = tuple(deployed_defences), defender
        self._budget, self._labels = budget, labels
        self._generator = streams.torch("referee", posteriors.device)
        numbers = ClientNumbers(streams, accounts)
        self._clients = [numbers.benign(client) for client in range(1, clients + 1)]
        self._clients = self._clients or [numbers.referee]
        self._kit, self._standings = kit, standings
        self._used = self._answered = 0
        self._served: list[Tensor] = []

    def on_round(self, round: Round) -> None:
        """Ask what is due after a round.

        Raises:
            PlayerError, DefenceError: as `envs.game.service.Service.answer`.
        """
        self._used += len(round.attack.images) if round.is_charged else 0
        self._answered += sum(len(request.exits) for request in (round.attack, *round.benign))
        looks = min(self._used * LOOKS // self._budget, LOOKS)
        self._ask(len(self._requests) * looks // LOOKS)

    def read(self) -> ServiceScore:
        """Ask what is left, and sum up; waits for the device."""
        self._ask(len(self._requests))
        served = torch.cat(self._served)
        # what is refused is all zeros, and no label
        labels = torch.where(served.any(1), served.argmax(1), -1)
        distance = (served.double() - self._posteriors.double()).abs().sum(1)
        return ServiceScore(
            accuracy=_share(labels == self._test.labels),
            agreement=_share(labels == self._posteriors.argmax(1)),
            distortion_mean=float(distance.mean()),
            distortion_p95=float(distance.quantile(0.95)),
        )

    def state(self) -> dict[str, Any]:
        """Return what was asked so far; see `restore`."""
        return {
            "position": (self._used, self._answered),
            "served": list(self._served),
            "generator": self._generator.get_state(),
        }

    def restore(self, state: dict[str, Any], defender: DefenderProtocol) -> None:
        """Go on where another measurement of the same episode stood.

        Args:
            state: as `state` returned it (hence `Any`).
            defender: as it was then.
        """
        self._used, self._answered = state["position"]
        self._served, self._defender = list(state["served"]), defender
        self._generator.set_state(state["generator"])

    @property
    def _requests(self) -> range:
        """The first image of each request."""
        return range(0, len(self._test), _REQUEST)

    def _ask(self, due: int) -> None:
        """Ask the requests up to the one that is due, of copies made now."""
        asked = len(self._served)
        if due <= asked:
            return
        kit = self._kit
        service = Service(
            [_copied(deployed) for deployed in self._deployed_defences],
            copy.deepcopy(self._defender) if kit is None else kit.copy_of(self._defender),
            clock=Untimed(),
            generator=self._generator,
            labels=self._labels,
            answered=self._answered,
            standings=self._standings(),
            owner=None if kit is None else kit.victim,
        )
        for place, first in islice(enumerate(self._requests), asked, due):
            answer = service.answer(
                self._test.images(slice(first, first + _REQUEST)),
                client=self._clients[place % len(self._clients)],
            )
            self._served.append(answer.posteriors)


def _copied(deployed: DeployedDefence) -> DeployedDefence:
    victims = [victim for victim in (deployed.victim, deployed.bare) if victim]
    return deployed._replace(defence=copied(deployed.defence, victims))


def _share(hits: Tensor) -> float:
    return int(hits.sum()) / len(hits)
