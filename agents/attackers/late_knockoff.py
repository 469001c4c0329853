"""Buy answers to a pool, keep those of the last exit, and train on them for many epochs."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from agents.attackers.confidence_filter import least_threshold
from agents.base import Attacker, Kit
from agents.learning.transfer_set import (
    Draws,
    TransferSet,
    branch,
    of_pool,
    recipe_for,
    trained,
)
from agents.timing_probe.confidence_jumps import first_jump
from agents.timing_probe.mixture import count_exits
from agents.timing_probe.timing_noise import log_times
from envs.data.images import bytes_to_unit
from envs.errors import BudgetExhausted, ScenarioError
from envs.oracle import Oracle
from envs.ranges import Count, Natural

_FEWEST = 0.02  # share of the answers below which a filter has nothing to say
_MARGIN = 1e-6  # float32 posteriors round to either side of a threshold


class LateKnockoff(Attacker):
    """Knockoff that learns from the answers of a multi-exit victim's last exit alone.

    `ConfidenceFilter` and `LatencyFilter` learn from each answer once; this attacker stores what
    it bought, finds the cut in all of it, and trains as `Knockoff` does.

    Args:
        by: "latency" keeps the slowest group of answers, "confidence" those below the first jump
            of the density of confidences, or below a threshold that an earlier phase found.
        answers: "served", or "argmax" to train on the most likely label of each alone.
        recipe: as for `Knockoff`.
        epochs: instead of the recipe's.
        request: images per request.

    Notes:
        Where no cut is found, or hardly an answer is beyond it, all answers are kept.

    Source:
        Ours, after Orekondy et al. 2019, Knockoff Nets, arXiv:1812.02766.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"pool"})

    def __init__(
        self,
        *,
        by: Literal["latency", "confidence"] = "confidence",
        answers: Literal["served", "argmax"] = "served",
        recipe: str | None = None,
        epochs: Natural | None = None,
        request: Count = 256,
    ) -> None:
        if by not in ("latency", "confidence") or answers not in ("served", "argmax"):
            raise ScenarioError(
                f"expected by 'latency' or 'confidence' and answers 'served' or 'argmax', "
                f"got '{by}' and '{answers}'"
            )
        if request < 1:
            raise ScenarioError(f"expected request of at least 1, got {request}")
        self._by, self._answers, self._request = by, answers, request
        self._recipe = (recipe, {"epochs": epochs})
        recipe_for(recipe, (1, 32, 32), **self._recipe[1])  # refuses what cannot be trained
        # what it needs depends on what it is told
        grants = "latency" if by == "latency" else "soft-labels"
        self.requires = self.requires | {grants}  # type: ignore[misc]

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Buy all answers, keep the late ones, and train a clone on them."""
        name, changes = self._recipe
        recipe = recipe_for(name, oracle.threat.image_shape, **changes)
        self.clone = kit.new_clone().to(kit.device)
        seed = int(branch(kit.generator).initial_seed())
        if not oracle.remaining:
            return
        draws = Draws(len(kit.pool), branch(kit.generator))
        pixels = of_pool(kit.pool, draws.take(oracle.remaining)).to(kit.device)
        answers, seen = self._buy(oracle, pixels)
        late = self._late(seen, kit)
        share = float(late.float().mean())
        kit.report(kept=share)
        if share >= _FEWEST:
            answers = TransferSet(answers.pixels[late], answers.posteriors[late])
        if self._answers == "argmax":
            answers = answers.hardened()
        self.clone, _ = trained(self.clone, answers, recipe, seed=seed)

    def _buy(self, oracle: Oracle, pixels: Tensor) -> tuple[TransferSet, Tensor]:
        """Return the answers until one is refused, and of each its seconds or its confidence."""
        targets: list[Tensor] = []
        seen: list[Tensor] = []
        for part in pixels.split(self._request):
            try:
                response = oracle.query(bytes_to_unit(part))
            except BudgetExhausted:
                if not targets:
                    raise
                break
            targets.append(response.posteriors.to(pixels.device))
            measure = response.latency if self._by == "latency" else response.posteriors.amax(1)
            seen.append(measure.double().to(pixels.device))
        answers = torch.cat(targets)
        return TransferSet(pixels[: len(answers)], answers), torch.cat(seen)

    def _late(self, seen: Tensor, kit: Kit) -> Tensor:
        """Tell which answers come from the last exit, as (n,) bool."""
        if self._by == "confidence":
            cut = least_threshold(kit)
            cut = first_jump(seen) if cut is None else cut
            return seen <= (math.inf if cut is None else cut - _MARGIN)
        if len(seen) < 2:
            return torch.ones_like(seen, dtype=torch.bool)
        cuts = count_exits(log_times(seen)).boundaries()
        return seen >= (math.exp(cuts[-1]) if len(cuts) else -math.inf)
