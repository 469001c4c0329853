"""Data-free model extraction: a generator and a clone play on their disagreement.

The clone lowers its disagreement with the victim on generated images, the generator raises it.
The victim gives no gradient, so the generator's is estimated by forward differences: each image
is asked twice, once as it is and once a step of 1e-3 aside.

The loop, its accounts and its hooks serve other data-free attacks too. Override `generator_step`
for another game (and `iteration_cost` with it), `keep` to learn from some answers only,
`disagreement` for another loss, `build_clone` and `learn` for several clones or a replay, `finish`
for what comes after the last query. Subclasses that keep `attack` can be resumed as this one can.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, ClassVar, TypedDict

import torch
from torch import Tensor, nn

from agents.base import Attacker, Kit
from agents.learning.clone import CloneTrainer, Loss, disagreement_for
from agents.learning.generators import Synthesiser
from agents.learning.memory_layout import laid_out
from agents.learning.schedules import Epochs, Settings, StepDecay, settings_for
from agents.learning.zeroth_order import forward_difference, full_precision
from envs.errors import BudgetExhausted
from envs.nets.generators import tanh_to_unit
from envs.oracle import Oracle
from envs.ranges import Amount, Count, Factor, Natural, Positive, Share
from envs.types import Response


class LoopSettings(TypedDict, total=False):
    """Parameters of `DFME` that attackers built on it take too; the default follows a type."""

    batch: Count | None
    generator_steps: Natural | None
    clone_steps: Count | None
    generator_rate: Positive | None
    clone_rate: Positive | None
    generator_width: Positive | None
    loss: Annotated[Loss, "auto"]


class DFME(Attacker):
    """The data-free attack with soft labels.

    Parameters that are not given follow the image size; see
    `agents.learning.schedules.settings_for`.

    Args:
        batch: images per request of a clone step, N.
        generator_steps, clone_steps: of one iteration, 1 and 5.
        directions: finite differences per generated image, m; more are less noisy and cost more.
        epsilon: length of a finite difference, before tanh.
        generator_rate: Adam's learning rate.
        clone_rate, momentum, weight_decay: of the clone's SGD.
        milestones, decay: both rates are multiplied by `decay` at these fractions of the epochs.
        epoch_length: iterations per epoch.
        generator_width: factor on the generator's channels; 1 is the published network.
        loss: "auto", "l1" (on recovered logits), "kl", "cross-entropy" or "argmax". "auto" is "l1"
            on soft labels, as published; answers with zeros in them (the largest few alone) have
            no logits, and "kl" learns from them what "l1" does not.
        drop_jumps: leave out finite differences above this multiple of the median one: an
            answer to victims whose exits change.
        spend_rest: spend what is left below the cost of an iteration in clone steps.

    Notes:
        The published loop stops when the rest of the budget pays for no whole iteration;
        `spend_rest=False` does so too. Budgets below 20 epochs (1,000 iterations) keep their
        rates unless `milestones` says otherwise. The white-box gradient that the released code
        logs once per epoch is left out: it is outside the threat model.

    Source:
        Truong et al. 2021, Data-free model extraction, CVPR, arXiv:2011.14779. The released
        code multiplies the estimate by the dimension and divides it by K a second time; Adam
        hides both but for its epsilon, and they are kept.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"soft-labels"})
    settled: ClassVar[bool] = False
    """Whether the generator is in evaluation mode for the images that the clone learns from."""

    divides_by_classes: ClassVar[bool] = True
    """Whether the generator's gradient is divided by K beside the batch, as DFME's code does."""

    settings: Settings
    epochs: Epochs
    synthesiser: Synthesiser
    trainer: CloneTrainer

    def __init__(
        self,
        *,
        batch: Count | None = None,
        generator_steps: Natural | None = None,
        clone_steps: Count | None = None,
        directions: Count | None = None,
        epsilon: Positive | None = None,
        generator_rate: Positive | None = None,
        clone_rate: Positive | None = None,
        momentum: Factor | None = None,
        weight_decay: Amount | None = None,
        milestones: Sequence[Share] | None = None,
        decay: Positive | None = None,
        epoch_length: Count | None = None,
        generator_width: Positive | None = None,
        loss: Loss = "auto",
        drop_jumps: Positive | None = None,
        spend_rest: bool = True,
    ) -> None:
        self._overrides: dict[str, object] = {
            "batch": batch,
            "generator_steps": generator_steps,
            "clone_steps": clone_steps,
            "directions": directions,
            "epsilon": epsilon,
            "generator_rate": generator_rate,
            "clone_rate": clone_rate,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "milestones": None if milestones is None else list(milestones),
            "decay": decay,
            "epoch_length": epoch_length,
            "generator_width": generator_width,
        }
        self._loss, self._drop_jumps, self._spend_rest = loss, drop_jumps, spend_rest
        self.iterations = 0

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Spend the budget in iterations of generator and clone steps."""
        self.prepare(oracle, kit)
        self.resume(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Play the iterations that are left, up to the first request that is refused."""
        # an answer that is not given ends the attack, and the log has it from the game
        with suppress(BudgetExhausted):
            self._iterate(oracle, kit)
        self.finish(oracle, kit)

    def _iterate(self, oracle: Oracle, kit: Kit) -> None:
        """Spend the budget in iterations, and the rest of it in clone steps."""
        while oracle.remaining >= self.epochs.cost:
            kit.safe_point()
            if self.iterations % self.epochs.length == 0:
                self.begin_epoch(self.iterations // self.epochs.length + 1, kit)
            for _ in range(self.settings.generator_steps):
                self.generator_step(oracle, kit)
            for _ in range(self.settings.clone_steps):
                self.clone_step(oracle, kit, self.settings.batch)
            self.iterations += 1
        while self._spend_rest and oracle.remaining:
            kit.safe_point()
            self.clone_step(oracle, kit, min(self.settings.batch, oracle.remaining))

    def finish(self, oracle: Oracle, kit: Kit) -> None:
        """Leave the clone as it is handed in; nothing more is answered."""
        self.trainer.clone.eval()
        self._report(kit)

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Build clone and generator, and lay out the epochs that the budget pays for."""
        threat = oracle.threat
        self.settings = settings_for(threat.image_shape, self._overrides)
        cost = self.iteration_cost(self.settings)
        self.epochs = Epochs(oracle.remaining, cost, self.settings.epoch_length)
        self.iterations = 0
        self._answers_loss = disagreement_for(self._loss, threat.labels)
        self.clone = laid_out(self.build_clone(kit).to(kit.device), threat.image_shape)
        self.trainer = CloneTrainer(
            self.clone,
            self.disagreement,
            rate=self.settings.clone_rate,
            momentum=self.settings.momentum,
            weight_decay=self.settings.weight_decay,
            generator=kit.generator,
        )
        self.synthesiser = Synthesiser.fresh(
            threat.image_shape,
            rate=self.settings.generator_rate,
            generator=kit.generator,
            width=self.settings.generator_width,
        )
        laid_out(self.synthesiser.network, threat.image_shape)
        self._decay = StepDecay(
            [self.trainer.optimizer, self.synthesiser.optimizer],
            self.epochs.milestones(self.settings.milestones),
            factor=self.settings.decay,
        )
        # what happened since the last report stays on the device until then
        self._seen: dict[str, list[Tensor]] = {}

    def iteration_cost(self, settings: Settings) -> int:
        """Return the images that one iteration asks."""
        return settings.cost

    def build_clone(self, kit: Kit) -> nn.Module:
        """Return the clone to train."""
        return kit.new_clone()

    def begin_epoch(self, epoch: int, kit: Kit) -> None:
        """Report the epoch that ended and set the rates of this one, counted from 1."""
        self._report(kit)
        self._decay.begin(epoch)

    def disagreement(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Measure (n,) disagreements of the clone's (n, K) logits with the answers."""
        return self._answers_loss(logits, targets)

    def keep(self, images: Tensor, response: Response) -> Tensor | None:
        """Choose the answers to learn from, as (n,) bool; None keeps all, without a wait."""
        return None

    def generator_step(self, oracle: Oracle, kit: Kit) -> None:
        """Move the generator towards images on which clone and victim disagree."""
        clone = self.trainer.clone.eval()

        def loss(points: Tensor) -> Tensor:
            images = tanh_to_unit(points)
            targets = oracle.query(images).posteriors.to(images.device)
            self.asked(images, targets)
            # float64, because differences of 1e-5 are taken of this
            return -self.disagreement(clone(images).double(), targets.double())

        points = self.synthesiser.pre_activations(self.settings.batch)
        with full_precision():
            estimate = forward_difference(
                loss,
                points.detach(),
                directions=self.settings.directions,
                epsilon=self.settings.epsilon,
                generator=kit.generator,
                drop_jumps=self._drop_jumps,
            )
        scale = len(points) * (oracle.threat.num_classes if self.divides_by_classes else 1)
        self.synthesiser.descend(points, estimate.gradient / scale)
        self.note("generator_loss", estimate.losses.mean())
        self.note("jump_share", estimate.jump_share)

    def asked(self, images: Tensor, targets: Tensor) -> None:
        """Look at the answers of a generator step: the images first, then those beside them."""

    def fresh_images(self, count: int) -> Tensor:
        """Draw the images that the clone's step asks, (count, c, h, w) in [0, 1]."""
        return self.synthesiser.images(count, settled=self.settled)

    def clone_step(self, oracle: Oracle, kit: Kit, count: int) -> None:
        """Ask fresh images and move the clone towards the answers."""
        images = self.fresh_images(count)
        response = oracle.query(images)
        targets = response.posteriors.to(images.device)
        kept = self.keep(images, response)
        if kept is not None:
            images, targets = images[kept], targets[kept]
        if len(images):
            self.note("clone_loss", self.learn(images, targets))

    def learn(self, images: Tensor, targets: Tensor) -> Tensor:
        """Train the clone on answers; returns the loss, 0-d and detached."""
        return self.trainer.step(images, targets)

    def note(self, name: str, value: Tensor) -> None:
        """Remember a 0-d number for the next report, without waiting for the device."""
        self._seen.setdefault(name, []).append(value)

    def _report(self, kit: Kit) -> None:
        if self._seen:
            means = {name: torch.stack(values).mean() for name, values in self._seen.items()}
            kit.report(**{name: float(value) for name, value in means.items()})
            self._seen = {}
