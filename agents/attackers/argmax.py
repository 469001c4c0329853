"""Learns labels alone from soft answers: perturbations that keep the top class do nothing."""

from typing import ClassVar

from agents.attackers.dfme import DFME
from envs.ranges import Count, Natural, Positive


class Argmax(DFME):
    """Plays DFME on the most likely label of each answer.

    Free, and decisive against defences that change probabilities but keep the top class. The
    benign figure for soft access is the better of this attacker and the plain one. Serves hard
    labels as well.

    Args:
        batch: images per request of a clone step.
        generator_steps, clone_steps: of one iteration; 0 generator steps ask an untrained
            generator.
        directions: finite differences per generated image.
        generator_rate, clone_rate: learning rates.
        epoch_length: iterations per epoch.
        drop_jumps: leave out finite differences above this multiple of the median one.

    Notes:
        A label does not change over a finite difference, so that the generator follows the
        clone's part of the cross-entropy: it looks for images of which the clone is unsure.

    Source:
        The top-1 attack of Tang et al. 2024, ModelGuard, USENIX Security, and its released code.
    """

    requires: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        batch: Count | None = None,
        generator_steps: Natural | None = None,
        clone_steps: Count | None = None,
        directions: Count | None = None,
        generator_rate: Positive | None = None,
        clone_rate: Positive | None = None,
        epoch_length: Count | None = None,
        drop_jumps: Positive | None = None,
    ) -> None:
        super().__init__(
            batch=batch,
            generator_steps=generator_steps,
            clone_steps=clone_steps,
            directions=directions,
            generator_rate=generator_rate,
            clone_rate=clone_rate,
            epoch_length=epoch_length,
            loss="argmax",
            drop_jumps=drop_jumps,
        )
