"""Makes each query expensive for the victim: images that no early exit answers."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from agents.attackers.random_generator import RandomGenerator
from agents.base import Kit
from agents.learning.clone import Loss
from agents.learning.transfer_set import Draws, branch, of_pool
from envs.data.images import bytes_to_unit
from envs.errors import ScenarioError
from envs.oracle import Oracle
from envs.ranges import Count, Natural, Positive, Share


class Slowdown(RandomGenerator):
    """Asks images that are moved to where the clone is least sure, so that they leave late.

    A first part of the budget trains the clone. Then every image climbs, by signed gradient
    steps within a small box, towards a uniform posterior of the clone, and is asked; the clone
    goes on learning. Its success is what a query costs the victim (multiply-accumulates per
    query), against that of an attacker who asks the same images unmoved (`steps = 0`).

    Args:
        images: what is moved: images of an untrained "generator", or of the "pool".
        learn: share of the budget for plain queries, 0 to 1.
        epsilon: largest change of a value, in [0, 1].
        steps: gradient steps.
        batch: images per request.
        clone_steps, clone_rate, epoch_length, loss: as for `RandomGenerator`.

    Notes:
        DeepSloth descends the distance of every exit of the victim itself from uniform. Here the
        clone stands in, whose exits are not the victim's, so that the distance of its one answer
        is descended: unsure images pass no threshold anywhere.

    Source:
        Hong et al. 2021, A panda? No, it's a sloth: slowdown attacks on adaptive multi-exit
        neural network inference, ICLR, arXiv:2010.02432.
    """

    requires: ClassVar[frozenset[str]] = frozenset()

    def __init__(
        self,
        *,
        images: Literal["generator", "pool"] = "generator",
        learn: Share = 0.3,
        epsilon: Share = 0.1,
        steps: Natural = 10,
        batch: Count | None = None,
        clone_steps: Count | None = None,
        clone_rate: Positive | None = None,
        epoch_length: Count | None = None,
        loss: Loss = "auto",
    ) -> None:
        if images not in ("generator", "pool"):
            raise ScenarioError(f"expected images 'generator' or 'pool', got '{images}'")
        if not 0 <= learn <= 1 or not 0 <= epsilon <= 1 or steps < 0:
            raise ScenarioError(
                f"expected learn and epsilon in [0, 1] and steps of at least 0, "
                f"got {learn}, {epsilon} and {steps}"
            )
        super().__init__(
            batch=batch,
            clone_steps=clone_steps,
            clone_rate=clone_rate,
            epoch_length=epoch_length,
            loss=loss,
        )
        self._images, self._share = images, learn
        self._epsilon, self._climbs = epsilon, steps
        if images == "pool":
            # what it needs depends on what it is told
            self.requires = frozenset({"pool"})  # type: ignore[misc]

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Lay out which part of the budget learns, before the rest slows the victim down."""
        self._begin_at = oracle.remaining - int(self._share * oracle.remaining)
        self._draws = (
            Draws(len(kit.pool), branch(kit.generator)) if self._images == "pool" else None
        )
        super().prepare(oracle, kit)

    def clone_step(self, oracle: Oracle, kit: Kit, count: int) -> None:
        """Ask images, moved or not, and learn from the answers."""
        if self._draws is None:
            images = self.synthesiser.images(count)
        else:
            images = bytes_to_unit(of_pool(kit.pool, self._draws.take(count)))
        slow = oracle.remaining <= self._begin_at
        if slow:
            images = self.slowed(images)
        targets = oracle.query(images).posteriors.to(images.device)
        self.note("confidence_slow" if slow else "confidence_plain", targets.amax(1).mean())
        self.note("clone_loss", self.learn(images, targets))

    def slowed(self, images: Tensor) -> Tensor:
        """Move (n, c, h, w) images within their box to where the clone is least sure."""
        clone = self.trainer.clone.eval()
        moved, step = images, 2.5 * self._epsilon / max(1, self._climbs)
        for _ in range(self._climbs):
            moved = moved.detach().requires_grad_(True)
            # the cross-entropy of a uniform target: how far the answer is from knowing nothing
            distance = -clone(moved).log_softmax(1).mean(1).sum()
            (slope,) = torch.autograd.grad(distance, moved)
            moved = moved.detach() - step * slope.sign()
            moved = torch.minimum(torch.maximum(moved, images - self._epsilon),
                                  images + self._epsilon).clamp(0, 1)  # fmt: skip
        return moved.detach()
