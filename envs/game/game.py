"""The rules of a round, the ledger and the end of an episode.

One game sits behind every door (the oracle, the Gymnasium environment), so that a query counts
alike whichever door it came through.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from envs.defences.base import Answer, Clock, DeployedDefence
from envs.errors import BudgetExhausted, DefenceError, QueryError
from envs.game.counters import Tally, TallyMeter
from envs.game.traffic import BenignTraffic
from envs.seeding import Streams
from envs.types import (
    VALUE_FAULT,
    Response,
    ThreatModel,
    check_images,
    faulty_values,
    harden_labels,
)


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """What a server sees of one request before it answers.

    Attributes:
        images: (n, c, h, w) float32 on the device.
        client: who asks, as far as the server can tell.
        answered: images answered before this request, to everybody.
        round: index of the round.
    """

    images: Tensor
    client: int
    answered: int
    round: int


@dataclass(frozen=True, slots=True)
class Countermeasure:
    """How the defender answers a request.

    Args:
        defence: index of the defence to use, among those the defender brought.
        strength: its knob, 0 (off) to 1 (as configured).
    """

    defence: int = 0
    strength: float = 1.0


@dataclass(frozen=True, eq=False, slots=True)
class Served:
    """What a server remembers of one request after it answered.

    Attributes:
        view: the request.
        countermeasure: how it was answered.
        posteriors: (n, K) float32, the answers; they go to the client, so that whoever changes
            or keeps them takes a copy.
        exits: (n,) int64, the exits they left from.
    """

    view: View
    countermeasure: Countermeasure
    posteriors: Tensor
    exits: Tensor


class Witness(Protocol):
    """Looks at what was served, without changing it; sees who asked, as no player does."""

    def __call__(self, images: Tensor, posteriors: Tensor, *, benign: bool, ood: bool) -> None:
        """Look at one answered request."""
        ...


class Seat(Protocol):
    """Where a defender sits. It is not told which requests are the attacker's."""

    def act(self, view: View) -> Countermeasure:
        """Decide how a request is answered."""
        ...

    def learn(self, served: Served) -> None:
        """Look at what was answered."""
        ...


ATTACKER_CLIENT = 0
"""The client number of the attacker; benign clients count from 1."""


class ExtractionGame:
    """A game of model extraction between one attacker and one defender.

    Args:
        threat: what the attacker may ask and see.
        deployed_defences: the defences the defender brought; all of one number of classes.
        defender: decides for each request.
        clock: runs victims and gives latencies.
        streams: random streams of the episode; the game uses "defence".
        traffic: benign users' queries, mixed in by share; none if absent.
        ood: what simulated controls are told of the attacker's queries: that they are out of
            distribution.
        witness: looks at every answer; nobody does if absent.
    """

    def __init__(
        self,
        threat: ThreatModel,
        deployed_defences: Sequence[DeployedDefence],
        defender: Seat,
        *,
        clock: Clock,
        streams: Streams,
        traffic: BenignTraffic | None = None,
        ood: bool = True,
        witness: Witness | None = None,
    ) -> None:
        self.threat = threat
        self.deployed_defences = tuple(deployed_defences)
        self.rounds = 0
        self.used = 0
        self.device = self.deployed_defences[0].victim.device
        self._on_host = self.device.type == "cpu"
        self._defender, self._clock, self._traffic = defender, clock, traffic
        self._ood, self._witness = ood, witness
        self._generator = streams.torch("defence", self.device)
        self._meter = TallyMeter(self.deployed_defences, self.device)
        self._fault = torch.zeros((), dtype=torch.bool, device=self.device)
        self._query_fault = torch.zeros((), dtype=torch.bool, device=self.device)
        self._listeners: list[Callable[[], None]] = []

    @property
    def remaining(self) -> int:
        """Images the attacker may still ask."""
        return self.threat.budget - self.used

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.remaining == 0

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every round; it must not change the game."""
        self._listeners.append(listener)

    def play(self, images: Tensor) -> Response:
        """Play one round: the attacker's request, and benign users' beside it.

        Raises:
            BudgetExhausted, QueryError: refused; nothing was charged or changed.
            DefenceError: the defender wrote into images or answers that are not its own.
        """
        images = check_images(images, self.threat.image_shape)
        if images.device != self.device:
            images = images.to(self.device)
        count = images.shape[0]
        if count > self.remaining:
            raise BudgetExhausted(
                f"asked for {count} answers with {self.remaining} of {self.threat.budget} left"
            )
        self._check_values(images)
        self.used += count
        self._serve_benign(count)
        answer = self._serve(images, client=ATTACKER_CLIENT, ood=self._ood)
        self.rounds += 1
        targets = answer.posteriors
        if self.threat.labels == "hard":
            targets = harden_labels(targets)
        self._meter.digest(images, targets)
        for listener in self._listeners:
            listener()
        return Response(targets, answer.latency if self.threat.latency_visible else None)

    def tally(self) -> Tally:
        """Read the counters of the whole episode so far; waits for the device.

        Raises:
            DefenceError: an answer since the start left the simplex or its L1 budget.
            QueryError: on an accelerator, an earlier query held values outside [0, 1].
        """
        if bool(self._query_fault):
            raise QueryError(VALUE_FAULT)
        if bool(self._fault):
            names = ", ".join(deployed_defence.name for deployed_defence in self.deployed_defences)
            raise DefenceError(
                f"an answer of the defender's ({names}) is no probability vector within its "
                f"L1 budget; run 'arena check' on it"
            )
        return self._meter.read(rounds=self.rounds, used=self.used)

    def state(self) -> dict[str, object]:
        """Return what changes while it is played, defender and defences excepted; see `restore`."""
        return {
            "rounds": self.rounds,
            "used": self.used,
            "generator": self._generator.get_state(),
            "meter": self._meter.state(),
            "fault": self._fault,
            "query_fault": self._query_fault,
            "traffic": None if self._traffic is None else self._traffic.position,
            "served": self._clock.served,
        }

    def restore(self, state: dict[str, Any], defender: Seat) -> None:
        """Go to where another game of the same plan stood, between two rounds.

        Args:
            state: as `state` returned it (hence `Any`).
            defender: as it sat there then.
        """
        self._defender = defender
        self.rounds, self.used = state["rounds"], state["used"]
        self._generator.set_state(state["generator"])
        self._meter.restore(state["meter"])
        self._fault, self._query_fault = state["fault"], state["query_fault"]
        self._clock.served = state["served"]
        if self._traffic is not None:
            self._traffic.position = state["traffic"]

    def attack_counters(self) -> tuple[Tensor, Tensor]:
        """Return answers to the attacker by exit and the MACs they cost, on the device.

        Returns:
            (exits,) int64, summed over the defender's deployed_defences, and 0-d float64.
        """
        return self._meter.attack_counters()

    def _check_values(self, images: Tensor) -> None:
        """Refuse bad values at once on a CPU; on an accelerator note them without waiting."""
        if self._on_host:
            low, high = images.aminmax()  # NaN if any value is
            if not (float(low) >= 0 and float(high) <= 1):
                raise QueryError(VALUE_FAULT)
        else:
            self._query_fault |= faulty_values(images)

    def _serve_benign(self, attack_count: int) -> None:
        if self._traffic is None:
            return
        for request in self._traffic.draw(attack_count):
            answer = self._serve(
                request.images, client=request.client, ood=request.ood, benign=True
            )
            self._meter.utility(answer.posteriors, request.labels)

    def _serve(self, images: Tensor, *, client: int, ood: bool, benign: bool = False) -> Answer:
        view = View(images, client, self._meter.answered, self.rounds)
        asked = _changes(images)
        decision = self._defender.act(view)
        deployed_defence = self.deployed_defences[decision.defence]
        with torch.no_grad(), self._meter.timed(benign):
            answer = deployed_defence.defence.answer(
                deployed_defence.victim,
                images,
                clock=self._clock,
                generator=self._generator,
                strength=decision.strength,
                labels=self.threat.labels,
                ood=ood,
            )
        if answer.fault is not False:
            self._fault |= answer.fault
        self._meter.count(decision.defence, answer.exits, benign=benign)
        checked = _changes(answer.posteriors)
        self._defender.learn(Served(view, decision, answer.posteriors, answer.exits))
        if _changes(images) != asked or _changes(answer.posteriors) != checked:
            raise DefenceError(
                f"the defender or its defence {deployed_defence.name} wrote into a client's "
                f"images or into "
                f"answers that were already given; copy what is to be changed"
            )
        if self._witness is not None:
            self._witness(images, answer.posteriors, benign=benign, ood=ood)
        return answer


def _changes(tensor: Tensor) -> int:
    """Count how often a tensor was written into; one of inference mode keeps no count."""
    return 0 if tensor.is_inference() else tensor._version


class GameOracle:
    """The in-process oracle: the attacker's chair at a game.

    Its public attributes lead to the threat model and the remaining budget, never to the game.
    """

    __slots__ = ("__game",)

    def __init__(self, game: ExtractionGame) -> None:
        self.__game = game

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        return self.__game.threat

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        return self.__game.remaining

    def query(self, images: Tensor) -> Response:
        """Ask for answers; see `envs.oracle.Oracle.query`."""
        return self.__game.play(images)
