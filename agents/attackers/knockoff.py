"""Asks images that the attacker owns, then trains on the answers for many epochs."""

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from agents.base import Attacker, Kit
from agents.learning.class_bandit import ClassBandit, rewards
from agents.learning.clone import CloneTrainer, cross_entropy
from agents.learning.transfer_set import (
    Draws,
    TransferSet,
    bought,
    branch,
    of_pool,
    recipe_for,
    trained,
)
from agents.oracle_wrappers.averaging import Combine, Duplicates, Repeated
from envs.data.images import ImageSet, bytes_to_unit
from envs.errors import BudgetExhausted, PlayerError, ScenarioError
from envs.oracle import Oracle
from envs.ranges import Count, Natural, Positive
from envs.training.recipes import Recipe


class Knockoff(Attacker):
    """Buys answers to images of the surrogate pool and trains the clone on them.

    With soft or with hard labels. The answers are stored, so that epochs and augmentation cost
    no further query.

    Args:
        policy: "random" draws images without replacement; "adaptive" learns which of the pool's
            classes are worth asking.
        answers: "served", or "argmax" to train on the most likely label of each answer alone,
            which a soft-label attacker should try as well.
        recipe: "knockoff", "grad", "short32", "modelguard", "dnf" or "small"; by image size if
            absent.
        epochs: of the final training, instead of the recipe's.
        learning_rate: of the final training, instead of the recipe's.
        request: images per request.
        budgets: also train at these numbers of queries, each time from the same fresh clone.
        repeats: answers bought for each image.
        combine: what becomes of them: "mean", "logit-mean", "vote", "least-confident", or
            "slowest", which needs a visible latency.
        duplicates: how an image is repeated: "exact", "jitter" or "shift".

    Notes:
        The clone starts from random weights; the published one from ImageNet's. Each budget
        trains a fresh clone, where the released code goes on with the last one. The adaptive
        policy was never released; ours draws whole requests of classes from one policy and
        updates it once a request, with the sum of the single updates, and keeps
        its three rewards in [0, 1] by their extremes so far. When the pool is used up, its
        images are asked again.

    Source:
        Orekondy et al. 2019, Knockoff nets, CVPR, arXiv:1812.02766, and its released code.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"pool"})
    _refused = False  # an answer was: what was bought before is all there is
    _bought: TransferSet | None

    def __init__(
        self,
        *,
        policy: Literal["random", "adaptive"] = "random",
        answers: Literal["served", "argmax"] = "served",
        recipe: str | None = None,
        epochs: Natural | None = None,
        learning_rate: Positive | None = None,
        request: Count = 256,
        budgets: list[Count] | None = None,
        repeats: Count = 1,
        combine: Combine = "mean",
        duplicates: Duplicates = "exact",
    ) -> None:
        if policy not in ("random", "adaptive"):
            raise ScenarioError(f"expected policy 'random' or 'adaptive', got '{policy}'")
        if min([request, repeats, *(budgets or [])]) < 1:
            raise ScenarioError("expected request, repeats and every budget of at least 1")
        self._policy, self._answers, self._request = policy, answers, request
        self._recipe = (recipe, {"epochs": epochs, "learning_rate": learning_rate})
        self._budgets = sorted(set(budgets or []))
        self._repeats: tuple[int, Combine, Duplicates] = (repeats, combine, duplicates)
        if repeats > 1 and combine == "slowest":
            # what it needs depends on what it is told
            self.requires = self.requires | {"latency"}  # type: ignore[misc]
        recipe_for(recipe, (1, 32, 32), **self._recipe[1])  # refuses what cannot be trained

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Buy answers up to each budget, and train a fresh clone there."""
        repeats, combine, duplicates = self._repeats
        if repeats > 1:
            oracle = Repeated(
                oracle,
                repeats,
                generator=branch(kit.generator),
                combine=combine,
                duplicates=duplicates,
            )
        self._oracle = oracle
        self._fresh = self.clone = kit.new_clone().to(kit.device)
        order, self._training = branch(kit.generator), int(branch(kit.generator).initial_seed())
        self._seller = self._source(oracle, kit, self._fresh, order)
        self._refused, self._bought = False, None
        budget = oracle.remaining
        self._stops = [*(stop for stop in self._budgets if stop < budget), budget]
        self.resume(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Buy and train up to the budgets that are left; a training starts from its beginning."""
        name, changes = self._recipe
        recipe = recipe_for(name, self._oracle.threat.image_shape, **changes)
        while self._stops:
            if not self._refused:
                self._buy(self._stops[0])
            kit.safe_point()
            if self._bought is not None:
                self.clone = self._train(self._fresh, self._bought, recipe, self._training, kit)
            del self._stops[0]

    def _buy(self, stop: int) -> None:
        """Buy up to a number of answers; fewer come where one is refused, which ends the buying."""
        missing = stop - (0 if self._bought is None else len(self._bought))
        more = self._seller.buy(self._oracle, missing, request=self._request)
        if more is not None:
            self._bought = more if self._bought is None else self._bought + more
        if more is not None and len(more) < missing:
            self._refused, self._stops = True, self._stops[:1]

    def _source(
        self, oracle: Oracle, kit: Kit, fresh: nn.Module, order: torch.Generator
    ) -> "RandomPolicy":
        if self._policy == "random":
            return RandomPolicy(kit.pool, order)
        self.clone = copy.deepcopy(fresh)
        return AdaptivePolicy(kit.pool, order, clone=self.clone, classes=oracle.threat.num_classes)

    def _train(
        self, fresh: nn.Module, answers: TransferSet, recipe: Recipe, seed: int, kit: Kit
    ) -> nn.Module:
        used = answers.hardened() if self._answers == "argmax" else answers
        clone, report = trained(fresh, used, recipe, seed=seed)
        if report.train_loss:
            kit.report(clone_loss=report.train_loss[-1], transfer_set=float(len(answers)))
        return clone


class RandomPolicy:
    """Draws images of the pool without replacement.

    Args:
        pool: the attacker's images.
        generator: draws the order.
    """

    def __init__(self, pool: ImageSet, generator: torch.Generator) -> None:
        self._pool, self._draws = pool, Draws(len(pool), generator)

    def buy(self, oracle: Oracle, count: int, *, request: int) -> TransferSet | None:
        """Buy `count` answers; None for none."""
        if count < 1:
            return None
        pixels = of_pool(self._pool, self._draws.take(count))
        return bought(oracle, pixels, request=request)


class AdaptivePolicy(RandomPolicy):
    """Learns along the way which classes of the pool are worth asking.

    Args:
        pool: the attacker's images, with classes.
        generator: draws classes and images.
        clone: learns from every request; its loss is one of the rewards.
        classes: K of the victim.

    Raises:
        PlayerError: the pool has one class only.
    """

    def __init__(
        self, pool: ImageSet, generator: torch.Generator, *, clone: nn.Module, classes: int
    ) -> None:
        super().__init__(pool, generator)
        present = pool.labels.unique().tolist()
        if len(present) < 2:
            raise PlayerError(
                f"the adaptive policy chooses among the pool's classes, and '{pool.name}' has "
                f'one; take a pool with classes, or policy = "random"'
            )
        self._members = [(pool.labels == one).nonzero().squeeze(1) for one in present]
        self._inside = [Draws(len(members), generator) for members in self._members]
        self._bandit = ClassBandit(len(present), generator)
        self._trainer = CloneTrainer(
            clone, cross_entropy, rate=0.01, momentum=0.5, weight_decay=0, generator=generator
        )
        self._mean = torch.zeros(classes, device=pool.device)
        self._asked = 0

    def buy(self, oracle: Oracle, count: int, *, request: int) -> TransferSet | None:
        """Buy `count` answers, a request at a time, and learn from each request."""
        answers: TransferSet | None = None
        for start in range(0, count, request):
            try:
                more = self._ask(oracle, min(request, count - start))
            except BudgetExhausted:
                if answers is None:
                    raise
                break
            answers = more if answers is None else answers + more
        return answers

    def _ask(self, oracle: Oracle, count: int) -> TransferSet:
        count = min(count, oracle.remaining or count)
        actions = self._bandit.draw(count)
        index = torch.empty(count, dtype=torch.int64, device=self._pool.device)
        for action in actions.unique().tolist():
            mine = actions == action
            drawn = self._inside[action].take(int(mine.sum())).to(index.device)
            index[mine.to(index.device)] = self._members[action][drawn]
        answers = bought(oracle, of_pool(self._pool, index), request=count)
        images, targets = bytes_to_unit(answers.pixels), answers.posteriors
        self._bandit.learn(actions, self._worth(images, targets))
        self._trainer.step(images, targets)
        return answers

    @torch.no_grad()
    def _worth(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return (3, n) rewards, not yet rescaled."""
        self._asked += len(targets)
        self._mean += (targets - self._mean).sum(0) / self._asked
        losses = cross_entropy(self._trainer.clone.eval()(images), targets)
        return rewards(targets, self._mean, losses)
