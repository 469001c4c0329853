"""The control of DFME: the same loop with a generator that is never trained."""

from collections.abc import Sequence
from typing import ClassVar

from agents.attackers.dfme import DFME
from agents.learning.clone import Loss
from envs.ranges import Amount, Count, Factor, Positive, Share


class RandomGenerator(DFME):
    """Asks images of an untrained DFME generator.

    What DFME reaches beyond this is what its finite differences are worth; on 8x8 digits that
    is nothing. Serves soft and hard labels. Arguments as for `DFME`.

    Args:
        batch: images per request.
        clone_steps: of one iteration; with `epoch_length` they make an epoch.
        clone_rate, momentum, weight_decay: of the clone's SGD.
        milestones, decay: the rate is multiplied by `decay` at these fractions of the epochs.
        epoch_length: iterations per epoch.
        generator_width: factor on the generator's channels.
        loss: "auto", "l1", "kl", "cross-entropy" or "argmax".

    Source:
        The networks and the clone's training of Truong et al. 2021 (DFME), arXiv:2011.14779.
    """

    requires: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        batch: Count | None = None,
        clone_steps: Count | None = None,
        clone_rate: Positive | None = None,
        momentum: Factor | None = None,
        weight_decay: Amount | None = None,
        milestones: Sequence[Share] | None = None,
        decay: Positive | None = None,
        epoch_length: Count | None = None,
        generator_width: Positive | None = None,
        loss: Loss = "auto",
    ) -> None:
        super().__init__(
            batch=batch,
            generator_steps=0,
            clone_steps=clone_steps,
            clone_rate=clone_rate,
            momentum=momentum,
            weight_decay=weight_decay,
            milestones=milestones,
            decay=decay,
            epoch_length=epoch_length,
            generator_width=generator_width,
            loss=loss,
        )
