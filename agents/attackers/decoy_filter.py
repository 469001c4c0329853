"""Learns what a victim answers to noise, and drops answers to other images that look like it."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from agents.base import Attacker, Kit
from agents.learning.generators import Synthesiser
from agents.learning.transfer_set import (
    Draws,
    TransferSet,
    bought,
    branch,
    of_pool,
    recipe_for,
    trained,
)
from envs.data.images import to_pixels
from envs.errors import BudgetExhausted, ScenarioError
from envs.oracle import Oracle
from envs.ranges import Count, Natural, Share
from envs.training.evaluation import predict

_FEWEST = 0.02  # share of the pool's answers below which a filter has nothing to say


class DecoyFilter(Attacker):
    """Knockoff that knows misleading answers by what the victim tells noise.

    An answer to noise is certainly no benign one. A first clone learns what the victim says to
    uniform noise and to images of an untrained generator. Then images of the surrogate pool are
    asked, and the answers which that clone would have given too are dropped: they follow the
    rule for OOD images. A second clone learns from the others.

    Args:
        share: of the budget that goes to noise.
        recipe: of both trainings, as for `Knockoff`.
        epochs: instead of the recipe's.
        request: images per request.

    Notes:
        A benign answer that happens to agree with the rule is dropped too, one in K where the
        rule has nothing to do with the class. Where hardly an answer is left, all are kept.

    Source:
        Ours, after Orekondy et al. 2019, Knockoff Nets, arXiv:1812.02766.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"pool"})

    def __init__(
        self,
        *,
        share: Share = 0.4,
        recipe: str | None = None,
        epochs: Natural | None = None,
        request: Count = 256,
    ) -> None:
        if not 0 < share < 1 or request < 1:
            raise ScenarioError(
                f"expected a share between 0 and 1 and request of at least 1, got {share}, "
                f"{request}"
            )
        self._share, self._request = share, request
        self._recipe = (recipe, {"epochs": epochs})
        recipe_for(recipe, (1, 32, 32), **self._recipe[1])  # refuses what cannot be trained

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Learn the rule for noise, then buy answers to the pool and drop what follows it."""
        name, changes = self._recipe
        recipe = recipe_for(name, oracle.threat.image_shape, **changes)
        fresh = kit.new_clone().to(kit.device)
        self.clone = fresh
        training = int(branch(kit.generator).initial_seed())
        draws = Draws(len(kit.pool), branch(kit.generator))
        count = round(self._share * oracle.remaining)
        rule: nn.Module | None = None
        if count > 1:
            ood = bought(oracle, self._noise(oracle, kit, count), request=self._request)
            rule, _ = trained(fresh, ood, recipe, seed=training)
        answers = self._of_pool(oracle, kit, draws)
        if answers is None:
            self.clone = fresh if rule is None else rule  # answers to noise are better than none
            return
        kept = answers if rule is None else self._kept(answers, rule, kit)
        self.clone, _ = trained(fresh, kept, recipe, seed=training)

    def _of_pool(self, oracle: Oracle, kit: Kit, draws: Draws) -> TransferSet | None:
        """Buy answers to the pool with what is left; None where none is given."""
        if not oracle.remaining:
            return None
        pixels = of_pool(kit.pool, draws.take(oracle.remaining))
        try:
            return bought(oracle, pixels, request=self._request)
        except BudgetExhausted:
            return None

    def _noise(self, oracle: Oracle, kit: Kit, count: int) -> Tensor:
        """Draw uniform noise and images of an untrained generator, half and half, as pixels."""
        shape = oracle.threat.image_shape
        half = count // 2
        synthesiser = Synthesiser.fresh(shape, rate=0.0, generator=kit.generator)
        noise = torch.rand((count - half, *shape), generator=kit.generator, device=kit.device)
        parts = [noise]
        for start in range(0, half, self._request):
            parts.append(synthesiser.images(min(self._request, half - start)))
        return to_pixels(torch.cat(parts))

    def _kept(self, answers: TransferSet, rule: nn.Module, kit: Kit) -> TransferSet:
        foretold = predict(rule, answers.pixels).argmax(1)
        apart = foretold != answers.posteriors.argmax(1)
        share = float(apart.float().mean())
        kit.report(kept=share)
        if share < _FEWEST:
            return answers
        return TransferSet(answers.pixels[apart], answers.posteriors[apart])
