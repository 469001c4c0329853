"""The defended service: each request passes decision, defence and the defender's learning."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from envs.defences.base import Clock, DeployedDefence
from envs.errors import DefenceError
from envs.game.rounds import AnsweredRequest, DefenderProtocol, Served, View
from envs.types import Labels

_UNTIMED = nullcontext()


class Service:
    """Answers requests one after the other, by the defender's decisions.

    Args:
        deployed_defences: the defences the defender brought.
        defender: decides for each request.
        clock: runs victims and gives latencies.
        generator: the defences' random stream.
        labels: what the attacker sees of an answer.
        answered: images answered before.

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
    ) -> None:
        self.deployed_defences = tuple(deployed_defences)
        self.defender, self.clock, self.generator = defender, clock, generator
        self.answered = answered
        self.fault = torch.zeros((), dtype=torch.bool, device=generator.device)
        self._labels = labels

    def answer(
        self,
        images: Tensor,
        *,
        client: int,
        round: int,
        ood: bool = False,
        labels: Tensor | None = None,
        timer: AbstractContextManager[None] = _UNTIMED,
    ) -> AnsweredRequest:
        """Answer one request, and show the answer to the defender.

        Args:
            images: (n, c, h, w) float32 in [0, 1] on the device.
            client: who asks, as far as the defender can tell.
            round: index of the round.
            ood: whether the images are out of distribution; simulated controls alone read it.
            labels: (n,) int64, the right ones, for observers.
            timer: measures the defence's work.

        Raises:
            DefenceError: the defender or a defence wrote into images or answers.
        """
        view = View(images, client, self.answered, round)
        asked = _writes(images)
        decision = self.defender.act(view)
        deployed = self.deployed_defences[decision.defence]
        with torch.no_grad(), timer:
            answer = deployed.defence.answer(
                deployed.victim,
                images,
                clock=self.clock,
                generator=self.generator,
                strength=decision.strength,
                labels=self._labels,
                ood=ood,
            )
        posteriors, exits, latency, fault = answer
        if fault is not False:
            self.fault |= fault
        self.answered += images.shape[0]
        before = _writes(posteriors), _writes(exits)
        self.defender.learn(Served(view, decision, posteriors, exits))
        if _writes(images) != asked or (_writes(posteriors), _writes(exits)) != before:
            raise DefenceError(
                f"the defender or its defence {deployed.name} wrote into a client's images or "
                f"into answers that were already given; copy what is to be changed"
            )
        return AnsweredRequest(images, client, decision, posteriors, exits, latency, ood, labels)


def _writes(tensor: Tensor) -> int:
    """Count how often a tensor was written into; one of inference mode keeps no count."""
    return 0 if tensor.is_inference() else tensor._version
