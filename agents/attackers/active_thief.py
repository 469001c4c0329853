"""Asks the images of a pool that tell its clone most: active learning against a victim."""

import copy
from contextlib import suppress
from typing import Literal, Unpack, get_args

import torch
from torch import Tensor, nn

from agents.attackers.pool_rounds import PoolRounds, RoundSettings
from agents.base import Kit
from agents.learning.selection import boundary_distances, entropies, farthest_first
from agents.learning.transfer_set import TransferSet, macro_f1
from envs.errors import ScenarioError, UnknownName
from envs.ranges import Count, Factor, Natural
from envs.training.evaluation import predict
from envs.training.recipes import Recipe

Strategy = Literal["uncertainty", "k-center", "dfal", "dfal+k-center", "random"]


class ActiveThief(PoolRounds):
    """Buys the answers to a pool in rounds, each chosen by a clone of the answers so far.

    Args:
        strategy: "uncertainty" asks where the clone's posterior has the most entropy, "k-center"
            what lies farthest from all that was asked among the clone's posteriors, "dfal" what
            DeepFool moves over the clone's nearest boundary in the shortest step,
            "dfal+k-center" the k-center choice of the images nearest a boundary, as many as the
            whole budget, and "random" is the control.
        choices: rounds of choosing, after the seed set.
        seed_share: of the budget, drawn at random for the first clone.
        validation_share: of the budget, drawn at random for judging the clones of the rounds; none
            without a seed set.
        round_epochs: at most, of those clones.
        patience: epochs without a better F1 after which such a training stops.
        recipe, epochs, learning_rate, request, candidates, pretraining: see `PoolRounds`.

    Notes:
        Ours differs: the clone that is handed in is trained by `recipe` on all answers, those for
        validation too, so that only the choice differs from `Knockoff`; the published one is the
        last round's with the best F1. The clones of the rounds train with Adam at 1e-3 in batches
        of 128 for at most 100 epochs with patience 10 (published: batches of 50, 1,000 and 20) and
        without the dropout of the authors' network. DeepFool steps on logits by a/||b||, stops at
        the boundary and tries ten classes; the released code steps by a on posteriors and goes on.
        When the pool is used up, its images are asked again.

    Source:
        Pal et al. 2020, ActiveThief, AAAI, arXiv:1905.09165, and its released code.
    """

    def __init__(
        self,
        *,
        strategy: Strategy = "dfal+k-center",
        choices: Natural = 8,
        seed_share: Factor = 0.1,
        validation_share: Factor = 0.1,
        round_epochs: Count = 100,
        patience: Count = 10,
        **rounds: Unpack[RoundSettings],
    ) -> None:
        if strategy not in get_args(Strategy):
            raise UnknownName("strategy", strategy, get_args(Strategy))
        if not 0 <= seed_share + validation_share < 1:
            raise ScenarioError(
                f"expected seed_share and validation_share of together less than 1, "
                f"got {seed_share} and {validation_share}"
            )
        super().__init__(**rounds)
        self._strategy, self._choices, self._patience = strategy, choices, patience
        self._shares = (validation_share, seed_share)
        self._round_recipe = Recipe(
            epochs=round_epochs,
            optimiser="adam",
            learning_rate=1e-3,
            weight_decay=1e-3,
            schedule="constant",
        )

    def stops(self, budget: int) -> list[int]:
        """Return the ends of the seed set and of the rounds; validation is bought with the seed."""
        held, seed = (int(share * budget) for share in self._shares)
        self._held = held if seed else 0  # a budget of a few images leaves none to judge by
        first = self._held + seed
        return [
            first + (budget - first) * done // (self._choices or 1) for done in range(self._choices)
        ]

    def choose(self, pixels: Tensor, count: int) -> Tensor:
        """Choose images by the strategy."""
        assert self.clone is not None
        if self._strategy == "random":
            return super().choose(pixels, count)
        if self._strategy == "uncertainty":
            scores = entropies(predict(self.clone, pixels).softmax(1))
            return scores.topk(count).indices
        if self._strategy == "k-center":
            return self._spread(pixels, count)
        distances = boundary_distances(self.clone, pixels)
        if self._strategy == "dfal":
            return distances.topk(count, largest=False).indices
        budget = self._stops[-1]
        near = distances.topk(min(max(count, budget), len(pixels)), largest=False).indices
        return near[self._spread(pixels[near], count)]

    def _spread(self, pixels: Tensor, count: int) -> Tensor:
        assert self.clone is not None
        asked = predict(self.clone, self.answers.pixels).softmax(1)
        return farthest_first(predict(self.clone, pixels).softmax(1), asked, count)

    def train(self, kit: Kit, *, last: bool) -> nn.Module:
        """Train on all answers by the recipe in the end, before that until F1 gets no better."""
        if last:
            return super().train(kit, last=True)
        held, labelled = self.answers.first(self._held), self.answers.after(self._held)
        clone = copy.deepcopy(self._fresh)
        generator = torch.Generator(device=labelled.pixels.device).manual_seed(self._seed)
        watch = _BestByF1(clone, held, self._patience)
        with suppress(_PastBestError):
            labelled.train(clone, self._round_recipe, generator, on_epoch=watch)
        watch.restore()
        return clone


class _PastBestError(Exception):
    """A training has gone on for long enough without getting better."""


class _BestByF1:
    """Keeps the weights with the best F1 on held answers, and stops a training that is past it."""

    def __init__(self, clone: nn.Module, held: TransferSet, patience: int) -> None:
        self._clone, self._held, self._patience = clone, held, patience
        self._best = (-1.0, 0, clone.state_dict())

    def __call__(self, epoch: int, loss: float) -> None:
        """Judge an epoch; raises `_PastBestError` to stop."""
        if not len(self._held):
            return
        score, since, _ = self._best
        now = macro_f1(self._clone, self._held)
        if now > score:
            self._best = (now, epoch, copy.deepcopy(self._clone.state_dict()))
        elif epoch - since >= self._patience:
            raise _PastBestError

    def restore(self) -> None:
        """Give the clone its best weights back; the last ones where none was judged."""
        self._clone.load_state_dict(self._best[2])
