"""Learns from some answers only: the loop of attackers that know a multi-exit victim.

Which answers are kept depends on a number that can be given, come from an earlier phase of a
campaign, or be estimated from the first answers.
"""

from abc import abstractmethod
from typing import Literal, Unpack

import torch
from torch import Tensor

from agents.attackers.dfme import DFME, LoopSettings
from agents.base import Kit
from agents.learning.transfer_set import Draws, branch, of_pool
from envs.data.images import bytes_to_unit
from envs.errors import ScenarioError
from envs.oracle import Oracle
from envs.types import Response


class FilteredDFME(DFME):
    """DFME with a filter on the answers its clone learns from.

    Subclasses say what is measured of an answer, how a cut is estimated from the first ones, and
    which side of it is kept.

    Args:
        cut: the number that divides answers; found out if absent.
        look: answers from which it is estimated, at most a tenth of the budget.
        images: "generator", or "pool" to ask images of the surrogate pool, without training a
            generator.
        drop_jumps: as for `DFME`; 100 leaves out differences that cross an exit.
        **dfme: as for `DFME`.
    """

    def __init__(
        self,
        *,
        cut: float | None,
        look: int,
        images: Literal["generator", "pool"],
        drop_jumps: float | None,
        **dfme: Unpack[LoopSettings],
    ) -> None:
        if images not in ("generator", "pool") or look < 1:
            raise ScenarioError(
                f"expected images 'generator' or 'pool' and look of at least 1, "
                f"got '{images}', {look}"
            )
        if images == "pool":
            dfme["generator_steps"] = 0
        super().__init__(drop_jumps=drop_jumps, **dfme)
        self._given_cut, self._look, self._images = cut, look, images
        self.cut: float | None = None
        if images == "pool":
            # what it needs depends on what it is told
            self.requires = self.requires | {"pool"}  # type: ignore[misc]

    @abstractmethod
    def measure(self, response: Response) -> Tensor:
        """Return the (n,) numbers that are compared with the cut."""

    @abstractmethod
    def estimate(self, values: Tensor, oracle: Oracle) -> float:
        """Return a cut estimated from the (n,) numbers of the first answers."""

    @abstractmethod
    def known(self, kit: Kit) -> float | None:
        """Return the cut that an earlier phase found out, if it did."""

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Take the cut that is given or known."""
        super().prepare(oracle, kit)
        self.cut = self._given_cut if self._given_cut is not None else self.known(kit)
        self._wanted = min(self._look, max(1, oracle.remaining // 10))
        self._looked: list[tuple[Tensor, Response]] = []
        self._pool_draws: Draws | None = None
        if self._images == "pool":
            self._pool_draws = Draws(len(kit.pool), branch(kit.generator))

    def clone_step(self, oracle: Oracle, kit: Kit, count: int) -> None:
        """Ask images and learn from those answers that pass; first of all, look at some."""
        images = self._draw(count, kit)
        response = oracle.query(images)
        if self.cut is not None:
            self._learn_kept(images, response)
            return
        self._looked.append((images, response))
        enough = sum(len(images) for images, _ in self._looked) >= self._wanted
        if enough or not oracle.remaining:
            self._settle(oracle, kit)

    def finish(self, oracle: Oracle, kit: Kit) -> None:
        """Find the cut at last, where the attack was refused before the first look ended."""
        if self._looked:
            self._settle(oracle, kit)
        super().finish(oracle, kit)

    def _settle(self, oracle: Oracle, kit: Kit) -> None:
        """Find the cut in the answers so far, and learn from those that pass."""
        values = torch.cat([self.measure(response) for _, response in self._looked])
        self.cut = self.estimate(values, oracle)
        kit.report(cut=self.cut)
        for images, response in self._looked:
            self._learn_kept(images, response)
        self._looked = []

    def _draw(self, count: int, kit: Kit) -> Tensor:
        if self._pool_draws is None:
            return self.synthesiser.images(count)
        return bytes_to_unit(of_pool(kit.pool, self._pool_draws.take(count)))

    def _learn_kept(self, images: Tensor, response: Response) -> None:
        targets = response.posteriors.to(images.device)
        kept = self.keep(images, response)
        if kept is not None:
            kept = kept.to(images.device)
            self.note("kept", kept.float().mean())
            images, targets = images[kept], targets[kept]
        if len(images):
            self.note("clone_loss", self.learn(images, targets))
