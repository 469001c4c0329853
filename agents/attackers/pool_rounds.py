"""Asks some images, trains a clone on all answers so far, chooses the next ones by it.

The loop, its ledger and its saves serve every attack that buys a transfer set in rounds.
Override `stops` for the sizes of the rounds, `choose` for which images of the pool come next (or
`images_to_ask` for images that are made), and `train` for what a clone learns from the answers.
Subclasses that keep `attack` can be resumed.
"""

from typing import ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from agents.base import Attacker, Kit
from agents.learning.pretraining import pretrain
from agents.learning.transfer_set import TransferSet, bought, branch, of_pool, recipe_for, trained
from envs.errors import BudgetExhausted, PlayerError
from envs.oracle import Oracle
from envs.ranges import Count, Natural, Positive
from envs.training.loop import FitReport
from envs.training.recipes import Recipe

_REQUEST = 256


class RoundSettings(TypedDict, total=False):
    """Parameters that every attacker of rounds takes; see `PoolRounds`."""

    recipe: str | None
    epochs: Natural | None
    learning_rate: Positive | None
    request: Count | None
    candidates: Count | None
    pretraining: Natural | None


class PoolRounds(Attacker):
    """Buys answers to a pool in rounds; with one round and no choice it is Knockoff.

    Args:
        recipe: of the clone that is handed in; by image size if absent, as for `Knockoff`.
        epochs, learning_rate: instead of the recipe's.
        request: images per request, 256 if absent.
        candidates: unasked images that are looked at in each round, drawn at random; all if absent.
        pretraining: epochs over the pool with the pool's own labels before the first query; every
            clone starts from what they leave. None if absent.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"pool"})
    _refused = False  # an answer was: what was bought before is all there is

    def __init__(self, **rounds: Unpack[RoundSettings]) -> None:
        changes = {"epochs": rounds.get("epochs"), "learning_rate": rounds.get("learning_rate")}
        self._recipe = (rounds.get("recipe"), changes)
        recipe_for(self._recipe[0], (1, 32, 32), **changes)  # refuses what cannot be trained
        self._request = rounds.get("request") or _REQUEST
        self._candidates = rounds.get("candidates")
        self._pretraining = rounds.get("pretraining") or 0

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Buy answers up to each stop, and train a fresh clone there."""
        self.prepare(oracle, kit)
        self._oracle = oracle
        self._refused, self._parts = False, list[TransferSet]()
        self._pending: Tensor | None = None
        self._fresh = self.clone = kit.new_clone().to(kit.device)
        self._chance, self._seed = branch(kit.generator), int(branch(kit.generator).initial_seed())
        self._unasked = torch.ones(len(kit.pool), dtype=torch.bool, device=kit.pool.device)
        if self._pretraining:
            recipe = self.recipe().with_changes(epochs=self._pretraining)
            pretrain(self._fresh, kit.pool.to(kit.device), recipe, seed=self._seed)
        budget = oracle.remaining
        between = {stop for stop in self.stops(budget) if 0 < stop < budget}
        self._stops = [*sorted(between), budget] if budget else []
        self.resume(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Play the rounds that are left; a training starts from its beginning."""
        while self._stops:
            if not self._refused:
                self._buy(self._stops[0] - sum(map(len, self._parts)), kit)
            kit.safe_point()
            self.clone = self.train(kit, last=len(self._stops) == 1).eval()
            del self._stops[0]

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Refuse, before the first query, what cannot be played."""
        if not len(kit.pool):
            raise PlayerError("expected a pool with images, got an empty one; see threat.pool")
        if self._pretraining and kit.pool.num_classes < 2:
            raise PlayerError(
                f"pretraining learns the pool's classes, and '{kit.pool.name}' has one; take a "
                f"pool with classes, or pretraining = 0"
            )

    def stops(self, budget: int) -> list[int]:
        """Return the numbers of answers at which a clone is trained, the budget apart."""
        return []

    def choose(self, pixels: Tensor, count: int) -> Tensor:
        """Choose the images of a later round.

        Args:
            pixels: (n, c, h, w) uint8, unasked images of the pool.
            count: how many, below n.

        Returns:
            (count,) int64, different places in `pixels`; at random unless overridden.
        """
        return self._drawn(len(pixels), count)

    def images_to_ask(self, count: int, kit: Kit) -> Tensor:
        """Return the (count, c, h, w) uint8 images that come next: at random in the first round.

        An image comes a second time when all were asked.
        """
        taken: list[Tensor] = []
        while count:
            open_ = self._unasked.nonzero().squeeze(1)
            part = open_ if len(open_) <= count else open_[self._picked(open_, count, kit)]
            self._unasked[part] = False
            if not bool(self._unasked.any()):
                self._unasked[:] = True
            taken.append(part)
            count -= len(part)
        return of_pool(kit.pool, torch.cat(taken)).to(kit.device)

    def train(self, kit: Kit, *, last: bool) -> nn.Module:
        """Train a fresh clone on all answers; the one after the last round is handed in."""
        clone, report = trained(self._fresh, self.answers, self.recipe(), seed=self._seed)
        self.tell(report, kit)
        return clone

    @property
    def answers(self) -> TransferSet:
        """All answers so far, in the order they were bought."""
        if len(self._parts) > 1:
            pixels = torch.cat([part.pixels for part in self._parts])
            posteriors = torch.cat([part.posteriors for part in self._parts])
            self._parts = [TransferSet(pixels, posteriors)]
        return self._parts[0]

    def recipe(self) -> Recipe:
        """Return the recipe of the clone that is handed in."""
        name, changes = self._recipe
        return recipe_for(name, self._oracle.threat.image_shape, **changes)

    def tell(self, report: FitReport, kit: Kit) -> None:
        """Report a training."""
        if report.train_loss:
            kit.report(clone_loss=report.train_loss[-1], transfer_set=float(len(self.answers)))

    def _buy(self, missing: int, kit: Kit) -> None:
        """Choose the images of a round and ask them, with a place to be saved at each request."""
        if missing and self._pending is None:
            self._pending = self.images_to_ask(missing, kit)
        while self._pending is not None:
            kit.safe_point()
            now, later = self._pending[: self._request], self._pending[self._request :]
            try:
                self._parts.append(bought(self._oracle, now, request=self._request))
            except BudgetExhausted:
                if not self._parts:
                    raise
                # the clone of the answers that there are is the last one
                self._refused, self._pending, self._stops = True, None, self._stops[:1]
                return
            self._pending = later if len(later) else None

    def _picked(self, open_: Tensor, count: int, kit: Kit) -> Tensor:
        """Return (count,) places in the unasked images."""
        if not self._parts:
            return self._drawn(len(open_), count)
        seen = len(open_) if self._candidates is None else max(count, self._candidates)
        if seen >= len(open_):
            pixels = of_pool(kit.pool, open_).to(kit.device)
            return self.choose(pixels, count).to(open_.device)
        looked = self._drawn(len(open_), seen).to(open_.device)
        if seen == count:
            return looked
        pixels = of_pool(kit.pool, open_[looked]).to(kit.device)
        return looked[self.choose(pixels, count).to(open_.device)]

    def _drawn(self, size: int, count: int) -> Tensor:
        order = torch.randperm(size, generator=self._chance, device=self._chance.device)
        return order[:count]
