"""Data-free extraction with KL divergences, many directions and a replay of all answers."""

from typing import ClassVar

import torch
from torch import Tensor

from agents.attackers.dfme import DFME
from agents.base import Kit
from agents.learning.replay_buffer import Replay
from agents.learning.schedules import Settings
from envs.oracle import Oracle
from envs.ranges import Count, Natural, Positive
from envs.training.optimisers import RateSchedule
from envs.training.recipes import Recipe


class MAZE(DFME):
    """The data-free attack with gradient estimates from many directions, with soft labels.

    An iteration takes a generator step, which asks each image at m + 1 points, clone steps, the
    first of them on the answers to those images, and steps on replayed answers.

    Args:
        batch: images per request of a clone step.
        directions: finite differences per generated image, m.
        clone_steps: of an iteration, the one on the generator step's answers included.
        replays: steps of an iteration on random batches of earlier answers.
        capacity: images of the replay buffer, at most.
        generator_rate: of the generator's SGD.
        clone_rate: of the clone's SGD; DFME's for the image size if absent.

    Notes:
        Ours differs: the generator is DFME's, which is built alike but for its latent (100 numbers
        there) and widths; the clone is in evaluation mode while the generator's gradient is
        estimated; the first clone step learns from answers that were bought already, where the
        released code asks a second time and does not count it; the white-box gradient that it
        logs is left out; the replay buffer is bounded. As there, both rates follow a cosine over
        the iterations, and of each the last batch is kept for replay. Its loop ends there; ours
        spends the rest of the budget too, at the cosine's last rate, which is 0.

    Source:
        Kariyappa et al. 2021, MAZE, CVPR, arXiv:2005.03161, and its released code.
    """

    divides_by_classes: ClassVar[bool] = False

    def __init__(
        self,
        *,
        batch: Count = 128,
        directions: Count = 10,
        clone_steps: Count = 5,
        replays: Natural = 10,
        capacity: Count = 500_000,
        generator_rate: Positive = 1e-4,
        clone_rate: Positive | None = None,
    ) -> None:
        super().__init__(
            batch=batch,
            generator_steps=1,
            clone_steps=clone_steps,
            directions=directions,
            generator_rate=generator_rate,
            clone_rate=clone_rate,
            milestones=(),
            loss="kl",
        )
        self._replays, self._capacity = replays, capacity

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Build clone, generator with SGD, both rates along a cosine, and an empty replay."""
        super().prepare(oracle, kit)
        threat, settings = oracle.threat, self.settings
        self.synthesiser.optimizer = torch.optim.SGD(
            self.synthesiser.network.parameters(),
            lr=settings.generator_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        optimisers = (self.trainer.optimizer, self.synthesiser.optimizer)
        steps = self.epochs.iterations
        self._rates = [RateSchedule(one, Recipe(schedule="cosine"), steps) for one in optimisers]
        capacity = max(settings.batch, min(self._capacity, oracle.remaining))
        self._replay = Replay(
            capacity, threat.image_shape, num_classes=threat.num_classes, device=kit.device
        )
        self._chance, self._learned = kit.generator, 0
        self._bought: tuple[Tensor, Tensor] | None = None

    def iteration_cost(self, settings: Settings) -> int:
        """Return the images of an iteration: the first clone step asks none."""
        return settings.cost - settings.batch

    def begin_epoch(self, epoch: int, kit: Kit) -> None:
        """Report the epoch that ended; rates follow the cosine."""
        self._report(kit)

    def asked(self, images: Tensor, targets: Tensor) -> None:
        """Keep the answers to the generated images themselves, which come first."""
        count = self.settings.batch
        self._bought = (images[:count], targets[:count])

    def clone_step(self, oracle: Oracle, kit: Kit, count: int) -> None:
        """Learn from the generator step's answers first, then from fresh ones."""
        if self._bought is None:
            super().clone_step(oracle, kit, count)
            return
        images, targets = self._bought
        self._bought = None
        self.note("clone_loss", self.learn(images, targets))

    def learn(self, images: Tensor, targets: Tensor) -> Tensor:
        """Train the clone; after an iteration's last answers replay, and move both rates on."""
        loss = super().learn(images, targets)
        self._learned += 1
        if self._learned % self.settings.clone_steps == 0:
            self._replay.add(images, targets)
            for _ in range(self._replays):
                super().learn(*self._replay.draw(self.settings.batch, self._chance))
            for rate in self._rates:
                rate.step()
        return loss
