"""The defended service: each request passes decision, defence and the defender's learning."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from envs.defences.base import Clock, DeployedDefence
from envs.errors import DefenceError, PlayerError, Refused
from envs.game.rounds import (
    AnsweredRequest,
    Countermeasure,
    DefenderProtocol,
    OwnVictim,
    Refusal,
    Served,
    View,
)
from envs.game.standings import Standings
from envs.types import Labels

_UNTIMED = nullcontext()

_CLOSED = Countermeasure(cut_off=True)
"""What becomes of a request from an account that is cut off."""


class Service:
    """Answers requests one after the other, by the defender's decisions.

    Args:
        deployed_defences: the defences the defender brought.
        defender: decides for each request.
        clock: runs victims and gives latencies.
        generator: the defences' random stream.
        labels: what the attacker sees of an answer.
        answered: images answered before.
        standings: the server's clock; a new one if absent.
        owner: the undefended victim, into which the defender may look.

    Attributes:
        fault: True once an answer left the simplex or its L1 budget; a 0-d bool tensor, which
            need not be waited for.
    """

    def __init__(
        self,
        deployed_defences: Sequence[DeployedDefence],
        defender: DefenderProtocol,
        *,
        clock: Clock,
        generator: torch.Generator,
        labels: Labels,
        answered: int = 0,
        standings: Standings | None = None,
        owner: OwnVictim | None = None,
    ) -> None:
        self.deployed_defences = tuple(deployed_defences)
        self.defender, self.clock, self.generator = defender, clock, generator
        self.answered = answered
        self.standings = standings or Standings()
        self._owner = owner
        self.fault = torch.zeros((), dtype=torch.bool, device=generator.device)
        self._labels = labels

    def answer(
        self,
        images: Tensor,
        *,
        client: int,
        ood: bool = False,
        labels: Tensor | None = None,
        timer: AbstractContextManager[None] = _UNTIMED,
    ) -> AnsweredRequest:
        """Answer one request, and show the answer to the defender.

        Args:
            images: (n, c, h, w) float32 in [0, 1] on the device.
            client: who asks, as far as the defender can tell.
            ood: whether the images are out of distribution; simulated controls alone read it.
            labels: (n,) int64, the right ones, for observers.
            timer: measures the defence's work.

        Raises:
            PlayerError: the defender chose no defence that it brought.
            BudgetExhausted: a victim elsewhere has no budget left.
            DefenceError: a hook of the defence returned something else than it was given.
        """
        standings, count = self.standings, images.shape[0]
        if client in standings.closed:
            return self._refused(images, client, _CLOSED, "account", ood=ood, labels=labels)
        # no index of the round: in each the attacker's request is the last
        view = View(images, client, self.answered, time=standings.elapsed, victim=self._owner)
        decision = self.defender.act(view)
        deployed = self._chosen(decision)
        if not decision.answers:
            refused: Refusal = "account" if decision.cut_off else "request"
            return self._refused(images, client, decision, refused, ood=ood, labels=labels)
        follows = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)  # `torch.no_grad` does it by a dozen calls
        try:
            with timer:
                answer = deployed.answer(
                    images,
                    clock=self.clock,
                    generator=self.generator,
                    strength=decision.strength,
                    labels=self._labels,
                    ood=ood,
                    account=client,
                )
        except Refused as refusal:  # by a victim elsewhere
            refused = "account" if refusal.is_closed else "request"
            return self._refused(images, client, decision, refused, ood=ood, labels=labels)
        finally:
            torch._C._set_grad_enabled(follows)
        posteriors, exits, latency, fault = answer
        if fault is not False:
            self.fault |= fault
        self.answered += count
        held = standings.hold(client, decision, count)
        standings.pass_time(count, latency, held)
        if held and latency is not None:
            latency = latency + held
        self.defender.learn(Served(view, decision, posteriors, exits))
        return AnsweredRequest(images, client, decision, posteriors, exits, latency, ood, labels)

    def require_valid(self) -> None:
        """Refuse the answers so far if one broke its contract; waits for the device.

        Raises:
            DefenceError: an answer left the simplex or its L1 budget.
        """
        if bool(self.fault):
            names = ", ".join(deployed.name for deployed in self.deployed_defences)
            raise DefenceError(
                f"an answer of the defender's ({names}) is no probability vector within its "
                f"L1 budget, or its latency is negative or not finite; run 'arena check' on it"
            )

    def state(self) -> dict[str, object]:
        """Return what changes while it answers, defender and defences excepted; see `restore`."""
        return {
            "generator": self.generator.get_state(),
            "fault": self.fault,
            "served": self.clock.served,
            "standings": self.standings.state(),
        }

    # Any: as `state` returns it
    def restore(self, state: dict[str, Any], defender: DefenderProtocol, *, answered: int) -> None:
        """Go on from what another's `state` returned, among other things."""
        self.defender, self.fault, self.answered = defender, state["fault"], answered
        self.generator.set_state(state["generator"])
        self.clock.served = state["served"]
        self.standings.restore(state["standings"])

    def _refused(
        self,
        images: Tensor,
        client: int,
        decision: Countermeasure,
        refused: Refusal,
        *,
        ood: bool,
        labels: Tensor | None,
    ) -> AnsweredRequest:
        """Give no answer, and none to the account any more if that is what is refused."""
        if refused == "account":
            self.standings.closed.add(client)
        self.standings.pass_time(0, None)
        classes = self.deployed_defences[0].victim.num_classes
        nothing = images.new_zeros(images.shape[0], classes)
        exits = torch.zeros(0, dtype=torch.int64, device=images.device)
        return AnsweredRequest(images, client, decision, nothing, exits, None, ood, labels, refused)

    def _chosen(self, decision: Countermeasure) -> DeployedDefence:
        """Return the defence that the defender chose."""
        if not isinstance(decision, Countermeasure):
            raise PlayerError(
                f"the defender's act returned {type(decision).__name__}; expected a Countermeasure"
            )
        count = len(self.deployed_defences)
        if decision.defence >= count:
            raise PlayerError(
                f"the defender chose defence {decision.defence}; expected 0 to {count - 1}"
            )
        return self.deployed_defences[decision.defence]
