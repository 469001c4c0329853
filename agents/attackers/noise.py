"""Asks uniform noise and trains the clone on the answers: the smallest attacker.

Start here to write your own. An attacker needs one method, `attack`; it sets `self.clone` early,
draws all its chance from `kit.generator`, and ends when nothing is left to ask.
"""

import torch

from agents.base import Attacker, Kit
from agents.learning.clone import CloneTrainer, Loss, disagreement_for
from agents.learning.schedules import Epochs, StepDecay, settings_for
from envs.oracle import Oracle
from envs.ranges import Count, Positive


class Noise(Attacker):
    """Asks images of uniform noise; the floor that every other attacker must beat.

    The clone is trained as DFME's is, so that the two differ in their queries alone.

    Args:
        batch: images per request, and per step of the clone; by image size if absent.
        clone_rate: the clone's learning rate; by image size if absent.
        loss: "auto" is l1 on recovered logits for soft labels, cross-entropy for hard ones.
    """

    def __init__(
        self, *, batch: Count | None = None, clone_rate: Positive | None = None, loss: Loss = "auto"
    ) -> None:
        self._overrides = {"generator_steps": 0, "batch": batch, "clone_rate": clone_rate}
        self._loss = loss

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Spend the budget, a batch at a time."""
        threat = oracle.threat
        self._settings = settings = settings_for(threat.image_shape, self._overrides)
        self.clone = kit.new_clone().to(kit.device)
        self._trainer = CloneTrainer(
            self.clone,
            disagreement_for(self._loss, threat.labels),
            rate=settings.clone_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
            generator=kit.generator,
        )
        epochs = Epochs(oracle.remaining, settings.cost, settings.epoch_length)
        milestones = epochs.milestones(settings.milestones)
        self._decay = StepDecay([self._trainer.optimizer], milestones, factor=settings.decay)
        self._steps = 0
        self.resume(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Play the steps that are left; all that they need is in `self`."""
        settings, trainer = self._settings, self._trainer
        while oracle.remaining:
            kit.safe_point()
            self._decay.begin(self._steps // (settings.clone_steps * settings.epoch_length) + 1)
            count = min(settings.batch, oracle.remaining)
            images = torch.rand(
                (count, *oracle.threat.image_shape), generator=kit.generator, device=kit.device
            )
            trainer.step(images, oracle.query(images).posteriors.to(kit.device))
            self._steps += 1
        trainer.clone.eval()
