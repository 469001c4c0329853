"""Asks images that are made from those it has asked, along the gradient of its clone."""

from typing import Literal, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.attackers.pool_rounds import PoolRounds, RoundSettings
from agents.base import Kit
from envs.data.images import bytes_to_unit, to_pixels
from envs.errors import ScenarioError
from envs.ranges import Count, Positive
from envs.training.evaluation import flags_restored

_AT_ONCE = 512
_COPIES = {"jbda": 1, "t-rnd": 3}  # images made of each in a round
_SEEDS = {"jbda": 100, "t-rnd": 1_000}
_STEPS, _LENGTH = 8, 1.85  # of T-RND: steps, and their sum over the reach


class JBDA(PoolRounds):
    """Jacobian-based data set augmentation: a few images of a pool, then images made of them.

    In each round a fresh clone learns all answers; then images are moved along the sign of its
    gradient and asked in turn, until the budget is spent.

    Args:
        variant: "jbda" moves each image once by `reach` towards its own label, which doubles
            the set; "t-rnd" makes three of each, in eight steps towards labels drawn anew at
            each step and never farther than `reach`, which makes it four times as large.
        seeds: images of the pool to begin with; 100 and 1,000 if absent.
        reach: largest change of a value of an image in [0, 1]; 0.1 up to 28 pixels a side and
            0.025 above, if absent.
        recipe, epochs, learning_rate, request, candidates, pretraining: see `PoolRounds`; nothing
            is chosen among `candidates` here.

    Notes:
        Ours differs: seeds come from the pool, as in ModelGuard's suite, where Papernot's are the
        victim's own kind; images are moved in [0, 1] and asked as 8-bit ones; only new images are
        asked, as many as the budget has left; clones start afresh each round by `recipe`.
        "jbda" climbs the logit of the label, as Papernot's does; ModelGuard's climbs the loss.

    Source:
        Papernot et al. 2017, Practical black-box attacks, AsiaCCS, arXiv:1602.02697;
        T-RND: Juuti et al. 2019, PRADA, arXiv:1805.02628, as in the code of Tang et al. 2024,
        ModelGuard.
    """

    def __init__(
        self,
        *,
        variant: Literal["jbda", "t-rnd"] = "jbda",
        seeds: Count | None = None,
        reach: Positive | None = None,
        **rounds: Unpack[RoundSettings],
    ) -> None:
        if variant not in _COPIES:
            raise ScenarioError(f"expected variant 'jbda' or 't-rnd', got '{variant}'")
        super().__init__(**rounds)
        self._variant, self._copies = variant, _COPIES[variant]
        self._seeds = _SEEDS[variant] if seeds is None else seeds
        self._reach = reach

    def stops(self, budget: int) -> list[int]:
        """Return the sizes of the growing set."""
        sizes = [self._seeds]
        while sizes[-1] < budget:
            sizes.append(sizes[-1] * (1 + self._copies))
        return sizes

    def images_to_ask(self, count: int, kit: Kit) -> Tensor:
        """Draw the seeds; after that, make images of those that were asked, in a random order."""
        if not self._parts:
            return super().images_to_ask(count, kit)
        have = self.answers
        # a budget's last round has no room for copies of all
        order = self._drawn(len(have), -(-count // self._copies)).repeat(self._copies)[:count]
        images, labels = bytes_to_unit(have.pixels[order]), have.posteriors[order].argmax(1)
        side = min(images.shape[2:])
        reach = self._reach or (0.1 if side <= 28 else 0.025)
        assert self.clone is not None
        return to_pixels(self._moved(self.clone, images, labels, reach))

    def _moved(self, clone: nn.Module, images: Tensor, labels: Tensor, reach: float) -> Tensor:
        parts = zip(images.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True)
        with flags_restored(clone):
            clone.eval()
            if self._variant == "jbda":
                moved = [part + reach * rise(clone, part, to) for part, to in parts]
            else:
                moved = [self._wandered(clone, part, reach) for part, _ in parts]
        return torch.cat(moved).clamp(0, 1)

    def _wandered(self, clone: nn.Module, images: Tensor, reach: float) -> Tensor:
        moved, classes = images, self._oracle.threat.num_classes
        for _ in range(_STEPS):
            to = torch.randint(
                classes, (len(images),), generator=self._chance, device=self._chance.device
            )
            step = _LENGTH * reach / _STEPS * fall(clone, moved, to)
            moved = torch.clamp(moved + step, images - reach, images + reach).clamp(0, 1)
        return moved


def rise(clone: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the sign of each image's change that raises the logit of its label."""
    points = images.clone().requires_grad_()
    chosen = clone(points).gather(1, labels[:, None]).sum()
    return torch.autograd.grad(chosen, points)[0].sign()


def fall(clone: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Return the sign of each image's change that lowers the cross-entropy of a label."""
    points = images.clone().requires_grad_()
    loss = F.cross_entropy(clone(points), labels, reduction="sum")
    return -torch.autograd.grad(loss, points)[0].sign()
