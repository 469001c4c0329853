"""Turns a finished clone round where a few labelled images show that its classes are exchanged."""

from typing import ClassVar, Unpack

import torch
from torch import Tensor, nn

from agents.attackers.dfme import DFME, LoopSettings
from agents.base import Kit
from agents.oracle_wrappers.inversion import Turn, check_labelled, labelled_pool, reading
from envs.oracle import Oracle
from envs.ranges import Count, Positive
from envs.training.evaluation import predict


class Relabelled(DFME):
    """DFME whose clone gets its classes exchanged at the end, by a few labelled images.

    A defence that answers OOD images systematically wrong gives its victim away: the clone
    is far below chance, and exchanging its classes, or reversing their order, turns it round.
    `Inversion` looks for that among the answers to its labelled images, which are benign ones;
    this attacker looks at what its clone says of them. Its labelled images cost no query.

    They come from the scenario's pool, whose classes must be the victim's: name the victim's own
    data set there, with `split = "validation"`.

    Args:
        labelled: labelled images it holds, drawn at random.
        sigmas: by so many standard errors another reading must be right more often.
        **dfme: as for `DFME`.

    Source:
        A check of this project: nobody is known to have published it.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"soft-labels", "pool"})

    turn: Turn | None = None

    def __init__(
        self, *, labelled: Count = 10, sigmas: Positive = 1.0, **dfme: Unpack[LoopSettings]
    ) -> None:
        check_labelled(labelled, sigmas)
        super().__init__(**dfme)
        self._labelled, self._sigmas = labelled, sigmas

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Draw the labelled images, then prepare as DFME does.

        Raises:
            PlayerError: the pool's classes are not the victim's.
        """
        pool = labelled_pool(kit, oracle.threat.num_classes, who="Relabelled")
        self._images = pool.select(torch.arange(min(self._labelled, len(pool)), device=kit.device))
        super().prepare(oracle, kit)

    def finish(self, oracle: Oracle, kit: Kit) -> None:
        """Exchange the clone's classes if its labelled images say so."""
        super().finish(oracle, kit)
        answers = predict(self.trainer.clone, self._images.pixels).softmax(1)
        self.turn = reading(answers, self._images.labels, sigmas=self._sigmas)
        kit.report(turned_round=float(self.turn.name != "none"))
        if self.turn.name != "none":
            self.clone = TurnedClone(self.trainer.clone, self.turn)


class TurnedClone(nn.Module):
    """A clone whose answers are turned round.

    Args:
        clone: maps (n, c, h, w) images to (n, K) logits.
        turn: how.
    """

    def __init__(self, clone: nn.Module, turn: Turn) -> None:
        super().__init__()
        self.clone, self._turn = clone, turn

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, K) logits."""
        return self._turn.restore(self.clone(images))
