"""Data-free model stealing with hard labels: a GAN near proxy images, spread over the classes.

No gradient is estimated. The generator learns to draw images like those of a proxy pool and, with
the clone in the victim's place, to spread them over the classes; only the most likely label of
each answer is read.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from agents.base import Attacker, Kit
from agents.learning.autoaugment import autoaugment
from agents.learning.clone import CloneTrainer, cross_entropy
from agents.learning.ensemble import diversity
from agents.learning.gan import Gan
from agents.learning.phases import Phases
from agents.learning.transfer_set import Draws, TransferSet, balanced_accuracy, bought, branch
from agents.learning.weight_averages import Averages
from envs.data.images import ImageSet, to_pixels
from envs.data.sources import load_pool
from envs.errors import BudgetExhausted, ScenarioError
from envs.oracle import Oracle
from envs.ranges import Amount, Count, Factor, Natural, Positive, Share
from envs.training.recipes import Recipe
from envs.types import harden_labels

_WARM_UP = 10  # epochs


class DFMSHL(Attacker):
    """The hard-label attack with a GAN, a diversity loss and a proxy pool.

    Phases: train the GAN; label pool and generated images and train a clone; spread the
    generator over the clone's classes; label its new images and train the clone anew; alternate
    clone, generator and discriminator until the budget is spent but for the validation labels;
    choose among running averages of the clone. Everything is charged.

    Args:
        proxy: "shapes" draws synthetic pictures; "pool" takes the surrogate pool of the
            scenario, which makes the attack one with proxy data.
        pool, gan_epochs, initial, clone_epochs, diversity_epochs, validation: see `Phases`; by
            image size and budget if absent.
        drawn: share of generated images among those labelled first, 0 to 1.
        batch: images per step.
        diversity, last_diversity: weight of the diversity loss, before and while alternating.
        clone_rate: of the clone's first training.
        rate: highest of the alternating phase.
        gan_rate: Adam's, of generator and discriminator.
        augment: send queries through AutoAugment.
        averages: decays of the running averages; 0 is the clone itself.

    Notes:
        The pool images labelled for the first clone keep their labels for the second; the
        released code buys them again. The rate rises linearly over ten epochs and falls along a
        cosine, where the released code restarts at 0 after the first epoch. Below 30 pixels
        images are shifted by a pixel instead of cropped and mirrored. The last averages are
        chosen by the mean accuracy over the classes that occur, however many there are.

    Source:
        Sanyal et al. 2022, Towards data-free model stealing in a hard label setting, CVPR,
        arXiv:2204.11022, and its released code.
    """

    def __init__(
        self,
        *,
        proxy: Literal["shapes", "pool"] = "shapes",
        pool: Count | None = None,
        gan_epochs: Natural | None = None,
        initial: Count | None = None,
        clone_epochs: Natural | None = None,
        diversity_epochs: Natural | None = None,
        validation: Count | None = None,
        drawn: Share = 0.5,
        batch: Count = 64,
        diversity: Amount = 10.0,
        last_diversity: Amount = 500.0,
        clone_rate: Positive = 0.1,
        rate: Positive = 0.009,
        gan_rate: Positive = 2e-4,
        augment: bool = True,
        averages: Sequence[Factor] = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9995, 0.9998),
    ) -> None:
        if proxy not in ("shapes", "pool"):
            raise ScenarioError(f"expected proxy 'shapes' or 'pool', got '{proxy}'")
        if not 0 <= drawn <= 1 or batch < 2:
            raise ScenarioError(f"expected drawn in [0, 1] and batch above 1, got {drawn}, {batch}")
        if proxy == "pool":
            # what it needs depends on what it is told
            self.requires = frozenset({"pool"})  # type: ignore[misc]
        given: dict[str, Any] = {  # Any: whole numbers, or None
            "pool": pool, "gan_epochs": gan_epochs, "initial": initial,
            "clone_epochs": clone_epochs, "diversity_epochs": diversity_epochs,
            "validation": validation,
        }  # fmt: skip
        self._given = {name: value for name, value in given.items() if value is not None}
        self._proxy, self._drawn, self._batch = proxy, drawn, batch
        self._diversity, self._last_diversity = diversity, last_diversity
        self._rates = (clone_rate, rate, gan_rate)
        self._augment, self._decays = augment, tuple(averages)

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Play all phases."""
        self._prepare(oracle, kit)
        self._phase = self._epoch = 0
        self.resume(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Play the phases that are left, the one that was broken off from its last safe point."""
        phases = (
            self._draw_like_the_pool,
            self._train_first,
            self._spread_out,
            self._train_again,
            self._alternate,
            self._choose,
        )
        while self._phase < len(phases):
            kit.safe_point()
            phases[self._phase](oracle, kit)
            self._phase, self._epoch = self._phase + 1, 0

    def _draw_like_the_pool(self, oracle: Oracle, kit: Kit) -> None:
        while self._epoch < self.phases.gan_epochs:
            self.gan.train(self.pool, epochs=1, batch=self._batch)
            self._epoch += 1
            kit.safe_point()

    def _train_first(self, oracle: Oracle, kit: Kit) -> None:
        self._owned = self._label_pool(oracle)
        try:
            drawn = self._label_drawn(oracle)
        except BudgetExhausted:
            if self._owned is None:
                raise
            drawn = None
        self._train_clone(self._owned, drawn, kit)

    def _spread_out(self, oracle: Oracle, kit: Kit) -> None:
        while self._epoch < self.phases.diversity_epochs:
            self.spread(epochs=1)
            self._epoch += 1
            kit.safe_point()

    def _train_again(self, oracle: Oracle, kit: Kit) -> None:
        self._train_clone(self._owned, self._label_drawn(oracle), kit)
        self._set_out(oracle)

    def _prepare(self, oracle: Oracle, kit: Kit) -> None:
        threat = oracle.threat
        scaled = Phases.of(threat.image_shape).within(oracle.remaining, drawn=self._drawn)
        self.phases = replace(scaled, **self._given)
        others = round(self.phases.initial * (1 + self._drawn)) + self.phases.validation
        if others > oracle.remaining:
            raise ScenarioError(
                f"initial and validation labels cost {others} of a budget of "
                f"{oracle.remaining}; ask for fewer, or leave them to the budget"
            )
        self.pool = self._proxies(threat.image_shape, kit)
        self._fresh = kit.new_clone().to(kit.device)
        self.clone = self._fresh
        self.gan = Gan(threat.image_shape, rate=self._rates[2], generator=kit.generator)
        self._kit = kit

    def _proxies(self, image_shape: tuple[int, int, int], kit: Kit) -> ImageSet:
        if self._proxy == "pool":
            pool = kit.pool
            order = torch.randperm(len(pool), generator=kit.generator, device=kit.device)
            return pool.select(order[: self.phases.pool])
        return load_pool(
            "shapes",
            image_shape=image_shape,
            generator=kit.generator,
            count=self.phases.pool,
            device=kit.device,
        )

    def _label_pool(self, oracle: Oracle) -> TransferSet | None:
        count = min(round(self.phases.initial * (1 - self._drawn)), len(self.pool))
        return self._labelled(oracle, self.pool.pixels[:count])

    def _label_drawn(self, oracle: Oracle) -> TransferSet | None:
        count = round(self.phases.initial * self._drawn)
        if count < 1:
            return None
        return self._labelled(oracle, to_pixels(self.gan.sample(count)))

    @staticmethod
    def _labelled(oracle: Oracle, pixels: Tensor) -> TransferSet | None:
        """Buy labels; nothing but the most likely one of each answer is read."""
        return bought(oracle, pixels, request=256).hardened() if len(pixels) else None

    def _train_clone(self, owned: TransferSet | None, drawn: TransferSet | None, kit: Kit) -> None:
        """Train a clone from scratch on all labels bought for pool and generated images."""
        parts = [part for part in (owned, drawn) if part is not None]
        clone = copy.deepcopy(self._fresh)
        if parts:
            large = min(self.pool.image_shape[1:]) >= 30
            recipe = Recipe(
                epochs=self.phases.clone_epochs,
                batch=128,
                learning_rate=self._rates[0],
                nesterov=False,
                augment="crop-flip" if large else "shift",
            )
            answers = parts[0] if len(parts) == 1 else parts[0] + parts[1]
            report = answers.train(clone, recipe, branch(kit.generator))
            kit.report(clone_loss=report.train_loss[-1] if report.train_loss else math.nan)
        self.clone = clone.eval()

    def spread(self, *, epochs: int | None = None) -> None:
        """Tune the generator towards images of all classes of the clone, which stands still."""
        for _ in range(self.phases.diversity_epochs if epochs is None else epochs):
            for real, _ in self.pool.batches(self._batch, self._kit.generator):
                if len(real) > 1:
                    drawn = self.gan.draw(len(real))
                    self._move_generator(drawn, self._diversity)
                    self.gan.discriminate(real, drawn)

    def _move_generator(self, drawn: Tensor, weight: float) -> Tensor:
        assert self.clone is not None
        with _still(self.clone.eval(), self.gan.discriminator):
            one_sided = diversity(self.clone(drawn))
            loss = self.gan.adversarial(drawn) + weight * one_sided
            self.gan.synthesiser.descend(loss)
        return one_sided.detach()

    def _set_out(self, oracle: Oracle) -> None:
        """Lay out the alternating phase, which spends all but the validation labels."""
        assert self.clone is not None
        self._trainer = CloneTrainer(
            self.clone, cross_entropy, rate=self._rates[1], generator=self._kit.generator
        )
        self._averages = Averages(self.clone, self._decays)
        self._queries = max(0, oracle.remaining - self.phases.validation)
        # every image of the pool once before any is seen again
        self._draws = Draws(len(self.pool), self._kit.generator)
        self._step, self._seen = 0, list[Tensor]()

    def _alternate(self, oracle: Oracle, kit: Kit) -> None:
        """Move clone, generator and discriminator in turn, a batch of new images at a time."""
        steps = -(-self._queries // self._batch)
        per_epoch = max(1, len(self.pool) // self._batch)
        warm = min(_WARM_UP * per_epoch, steps // 4)
        while self._step < steps:
            kit.safe_point()
            rate = self._rates[1] * _factor(self._step, steps, warm)
            for group in self._trainer.optimizer.param_groups:
                group["lr"] = rate
            count = min(self._batch, self._queries - self._step * self._batch)
            real = self.pool.images(self._draws.take(self._batch).to(self.pool.device))
            drawn = self.gan.draw(len(real))
            self._seen.append(self._clone_step(oracle, self._trainer, drawn[:count]))
            self._move_generator(drawn, self._last_diversity)
            self.gan.discriminate(real, drawn)
            self._averages.update()
            self._step += 1
            if self._step % per_epoch == 0:
                kit.report(clone_loss=float(torch.stack(self._seen).mean()))
                self._seen = []

    def _clone_step(self, oracle: Oracle, trainer: CloneTrainer, drawn: Tensor) -> Tensor:
        images = drawn.detach()
        if self._augment:
            images = autoaugment(images, self._kit.generator)
        # nothing but the most likely label of each answer is read
        labels = harden_labels(oracle.query(images).posteriors.to(images.device))
        return trainer.step(images, labels.float())

    def _choose(self, oracle: Oracle, kit: Kit) -> None:
        """Buy validation labels and hand in the average that agrees with them best."""
        assert self.clone is not None
        count = min(self.phases.validation, oracle.remaining)
        if count < 1:
            self.clone.eval()
            return
        averages = self._averages
        held = self._labelled(oracle, to_pixels(self.gan.sample(count)))
        assert held is not None
        scores = [balanced_accuracy(network, held) for network in averages.networks]
        best = max(range(len(scores)), key=scores.__getitem__)
        kit.report(validation=scores[best], average=averages.decays[best])
        self.clone = averages.networks[best].requires_grad_(True).eval()


def _factor(step: int, steps: int, warm: int) -> float:
    """Rise linearly over the warm-up, then fall along half a cosine."""
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


@contextmanager
def _still(*networks: nn.Module) -> Iterator[None]:
    """Let gradients pass through networks without computing those of their weights."""
    flags = [(p, p.requires_grad) for network in networks for p in network.parameters()]
    for p, _ in flags:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p, flag in flags:
            p.requires_grad_(flag)
