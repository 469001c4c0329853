"""Turn a finished clone round with a few labelled images: the test of answers upside down."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.attackers.dfme import DFME
from agents.attackers.inversion import Turn, labelled_pool, reading
from agents.base import Kit
from agents.learning.clone import Loss
from envs.errors import ScenarioError
from envs.oracle import Oracle
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
        batch, generator_steps, clone_steps, generator_rate, clone_rate, loss: as for `DFME`.

    Source:
        A check of this project: nobody is known to have published it.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"soft-labels", "pool"})

    turn: Turn | None = None

    def __init__(
        self,
        *,
        labelled: int = 10,
        sigmas: float = 1.0,
        batch: int | None = None,
        generator_steps: int | None = None,
        clone_steps: int | None = None,
        generator_rate: float | None = None,
        clone_rate: float | None = None,
        loss: Loss = "auto",
    ) -> None:
        if labelled < 2 or sigmas < 0:
            raise ScenarioError(
                f"expected at least 2 labelled images and sigmas of at least 0, "
                f"got {labelled} and {sigmas}"
            )
        super().__init__(
            batch=batch,
            generator_steps=generator_steps,
            clone_steps=clone_steps,
            generator_rate=generator_rate,
            clone_rate=clone_rate,
            loss=loss,
        )
        self._labelled, self._sigmas = labelled, sigmas

    def wrap_oracle(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Draw the labelled images, and ask the oracle as it is.

        Raises:
            PlayerError: the pool's classes are not the victim's.
        """
        pool = labelled_pool(kit, oracle.threat.num_classes, who="Relabelled")
        self._images = pool.select(torch.arange(min(self._labelled, len(pool)), device=kit.device))
        return oracle

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
