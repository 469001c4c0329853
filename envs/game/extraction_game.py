"""The rules of a round, and the end of an episode.

The oracle and the Gymnasium environments lead to the same game, which alone charges queries.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from torch import Tensor

from envs.defences.base import Clock, DeployedDefence
from envs.errors import BudgetExhausted, QueryError, Refused, VictimUnreachable
from envs.game.access import Access
from envs.game.accounts import Accounts, refusal_of
from envs.game.asking import ask_accounts
from envs.game.budget import Budget
from envs.game.clients import ClientNumbers
from envs.game.counters import Counters, Tally
from envs.game.query_images import QueryImages
from envs.game.rounds import (
    AnsweredRequest,
    DefenderProtocol,
    Ledger,
    Observer,
    OwnVictim,
    Round,
)
from envs.game.service import Service
from envs.game.standings import Standings
from envs.game.traffic import BenignTraffic
from envs.plain_tensors import own_precision, without_overrides
from envs.seeding import Streams
from envs.types import Response, ThreatModel, check_within, harden_labels


class ExtractionGame:
    """A game of model extraction between one attacker and one defender.

    Args:
        threat: what the attacker may ask and see.
        deployed_defences: the defences the defender brought; all of one number of classes.
        defender: decides for each request.
        clock: runs victims and gives latencies.
        streams: random streams of the episode; the game uses "defence", "clients" and "accounts".
        traffic: benign users' queries, mixed in by share; none if absent.
        ood: what simulated controls are told of the attacker's queries: that they are out of
            distribution.
        ledger: of a victim elsewhere, which charges in the game's place, and may charge more than
            it answers.
        owner: the undefended victim, into which the defender may look.

    Attributes:
        fault: what broke a round off, such as a fault of the defender's; then the game is over.
    """

    def __init__(
        self,
        threat: ThreatModel,
        deployed_defences: Sequence[DeployedDefence],
        defender: DefenderProtocol,
        *,
        clock: Clock,
        streams: Streams,
        traffic: BenignTraffic | None = None,
        ood: bool = True,
        ledger: Ledger | None = None,
        owner: OwnVictim | None = None,
    ) -> None:
        # a copy of the game's own: the values that rule it are in no player's hands
        self._threat = replace(threat)
        self._access = Access()
        self._accounts = Accounts(self._threat, streams)
        self._is_elsewhere = ledger is not None
        self._budget = Budget(self._threat, self._accounts, ledger)
        self._clients = ClientNumbers(streams, self._threat.accounts)
        self.deployed_defences = tuple(deployed_defences)
        self.rounds = 0
        self.fault: BaseException | None = None
        self.device = self.deployed_defences[0].victim.device
        self._images = QueryImages(self.device)
        self._traffic, self._ood = traffic, ood
        self._service = Service(
            deployed_defences,
            defender,
            clock=clock,
            generator=streams.torch("defence", self.device),
            labels=threat.labels,
            owner=owner,
        )
        self._counters = Counters(self.deployed_defences, self.device)
        self._observers: list[Observer] = [self._counters]

    @property
    def threat(self) -> ThreatModel:
        """What the attacker may ask and see: a copy at each look."""
        return replace(self._threat)

    @property
    def used(self) -> int:
        """Images charged so far."""
        return self._budget.used

    @property
    def remaining(self) -> int:
        """Images the attacker may still ask."""
        return self._budget.remaining

    @property
    def tired(self) -> bool:
        """Whether so much was refused free of charge that the server answers no more."""
        return self._budget.tired

    @property
    def attacker_clients(self) -> tuple[int, ...]:
        """The numbers under which the attacker's accounts ask in this episode, in order."""
        return self._clients.accounts

    @property
    def charged_by_account(self) -> tuple[int, ...]:
        """Images charged to each of the attacker's accounts, in order."""
        return tuple(self._accounts.charged.tolist())

    @property
    def closed_accounts(self) -> tuple[int, ...]:
        """The attacker's accounts that are cut off."""
        return self._accounts.closed

    @property
    def standings(self) -> Standings:
        """The server's clock and the accounts it has cut off or slowed down: a copy each time."""
        return self._service.standings.copy()

    def room_of(self, account: int | None) -> int:
        """Return the images that an account may still ask for; of all of them where it is None."""
        return min(self.remaining, self._accounts.room_of(account))

    @property
    def over(self) -> bool:
        """Whether the budget is spent."""
        return self.remaining == 0

    def add_observers(self, *observers: Observer) -> None:
        """Show every further round to observers, after the game's counters and in this order."""
        self._observers.extend(observers)

    @property
    def busy(self) -> bool:
        """Whether a query is being answered, or a clone scored."""
        return self._access.busy

    def suspended(self) -> AbstractContextManager[None]:
        """Refuse queries while a clone is scored."""
        return self._access.suspended()

    def close(self) -> None:
        """Refuse every further query: the attack is over."""
        self._access.close()

    def play(self, images: Tensor, account: int | None = None) -> Response:
        """Answer the attacker's query, and benign users' requests beside it.

        Each account that the query is dealt to makes a request of its own, which is a round; so
        does the next account where one is refused.

        Args:
            images: see `envs.oracle.Oracle.query`.
            account: which of the attacker's asks; dealt by the threat model's policy if absent.

        Raises:
            BudgetExhausted, QueryError: refused; nothing was charged or changed.
            Refused: by the defender; it tells what was charged.
            DefenceError: the defender wrote into images or answers that are not its own.
        """
        self._access.enter()
        try:
            with without_overrides(), own_precision(self.device.type):
                return self._play(images, account)
        finally:
            self._access.leave()

    def wait(self, account: int) -> float:
        """Return the seconds, by the server's clock, until an account's rate allows an answer."""
        return self._service.standings.wait(self._clients.accounts[account])

    def _play(self, images: Tensor, account: int | None) -> Response:
        if self.fault is not None:
            raise QueryError("the game is over because a round of it was broken off")
        images = check_within(images, self._threat.image_shape)
        count = images.shape[0]
        self._budget.require(count)
        account = self._accounts.checked(account, count)
        images = self._images.copied(images)
        before = self._budget.used
        try:
            if account is not None:
                return self._play_round(images, account)
            return ask_accounts(
                self._play_round,
                self._accounts,
                images,
                remaining=lambda: self._budget.remaining,
                latency=self._threat.latency_visible,
            )
        except Refused as refusal:
            refusal.charged = self.used - before
            raise

    def _play_round(self, images: Tensor, account: int) -> Response:
        """Play one round: a request from one account, and benign users' beside it.

        Raises:
            Refused: by the defender, or by a victim elsewhere.
        """
        count, budget = images.shape[0], self._budget
        before = budget.used
        budget.charge(account, count)
        try:
            benign = () if self._traffic is None else self._answer_benign(self._traffic, count)
            attack = self._service.answer(
                images,
                client=self._clients.accounts[account],
                ood=self._ood,
                timer=self._counters.attack_timer,
            )
        except BaseException as fault:
            self._break_off(account, count, fault, before)
            raise
        given, is_charged = attack.posteriors, True
        if attack.refused is not None:
            if self._threat.refused == "free" or self._is_elsewhere:
                budget.take_back(account, count)
                is_charged = budget.used > before
                budget.unpaid += 0 if is_charged else count
            if attack.refused == "account":
                self._accounts.close(account)
        elif self._threat.labels == "hard":
            given = harden_labels(given)
        round = Round(self.rounds, attack, benign, given, account, is_charged)
        self.rounds += 1
        for observer in self._observers:
            observer.on_round(round)
        if attack.refused is not None:
            raise refusal_of(account, attack.refused)
        return Response(given, attack.latency if self._threat.latency_visible else None)

    def _break_off(self, account: int, count: int, fault: BaseException, before: int) -> None:
        """End the game at a round that was not finished, and charge nothing for that round.

        A victim elsewhere charges by its own ledger, and may answer another time.
        """
        charged = self._budget.used - before if self._is_elsewhere else 0
        self._budget.take_back(account, count - charged)
        if self._is_elsewhere and isinstance(fault, BudgetExhausted | VictimUnreachable):
            return
        self.fault = fault

    def tally(self) -> Tally:
        """Read the counters of the whole episode so far; waits for the device.

        Raises:
            DefenceError: an answer since the start left the simplex or its L1 budget.
            QueryError: on an accelerator, an earlier query held values outside [0, 1].
        """
        self._images.require_valid()
        self._service.require_valid()
        return self._counters.read(rounds=self.rounds, used=self.used)

    def state(self) -> dict[str, object]:
        """Return what changes while it is played, defender and defences excepted; see `restore`."""
        return {
            "rounds": self.rounds,
            **self._budget.state(),
            "accounts": self._accounts.state(),
            "counters": self._counters.state(),
            "query_fault": self._images.fault,
            "traffic": None if self._traffic is None else self._traffic.position,
            **self._service.state(),
        }

    def restore(self, state: dict[str, Any], defender: DefenderProtocol) -> None:
        """Go to where another game of the same plan stood, between two rounds.

        Args:
            state: as `state` returned it (hence `Any`).
            defender: as it was then.
        """
        self.rounds = state["rounds"]
        self._budget.restore(state)
        self._accounts.restore(state["accounts"])
        self._counters.restore(state["counters"])
        self._images.fault = state["query_fault"]
        self._service.restore(state, defender, answered=self._counters.answered)
        if self._traffic is not None:
            self._traffic.position = state["traffic"]

    def attack_counters(self) -> tuple[Tensor, Tensor]:
        """Return answers to the attacker by exit and the MACs they cost, on the device.

        Returns:
            (exits,) int64, summed over the defender's defences, and 0-d float64.
        """
        return self._counters.attack_counters()

    def _answer_benign(
        self, traffic: BenignTraffic, attack_count: int
    ) -> tuple[AnsweredRequest, ...]:
        return tuple(
            self._service.answer(
                request.images,
                client=self._clients.benign(request.client),
                ood=request.ood,
                labels=request.labels,
                timer=self._counters.benign_timer,
            )
            for request in traffic.draw(attack_count)
        )
