"""Knockoff whose clone also learns from the images of its pool that were never asked."""

import copy
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.attackers.pool_rounds import PoolRounds, RoundSettings
from agents.base import Kit
from agents.learning.features import refresh_statistics, with_features
from agents.learning.transfer_set import Draws
from envs.data.images import bytes_to_unit
from envs.errors import PlayerError
from envs.oracle import Oracle
from envs.ranges import Amount, Count
from envs.training.loop import cross_entropy

_TURNS = 4


class S4L(PoolRounds):
    """Semi-supervised extraction: answers, and beside them the rotation of unasked images.

    The budget is spent on images drawn at random, as `Knockoff` does. The clone gets a second head
    that tells by how many quarters an image of the whole pool was turned; that costs no query.

    Args:
        weight: of the rotation's cross-entropy; 0 is `Knockoff`.
        unlabelled: images of the pool per step, each shown in its four turns; as many as answers
            if absent.
        recipe, epochs, learning_rate, request, candidates, pretraining: see `PoolRounds`; nothing
            is chosen among `candidates` here.

    Notes:
        Ours differs in what is turned: the whole pool, where ModelGuard's suite turns the images
        that were asked; in an epoch's length, which is that of the answers; and in the statistics
        of batch normalisation, which are gathered anew from upright answered images at the end,
        because clones are scored on upright ones. As there, turned images are not augmented.

    Source:
        The rotation loss of Jagielski et al. 2020, High accuracy and high fidelity extraction of
        neural networks, USENIX Security, arXiv:1909.01838, after Zhai et al. 2019 (S4L),
        arXiv:1905.03670; settings as in the code of Tang et al. 2024, ModelGuard.
    """

    def __init__(
        self,
        *,
        weight: Amount = 1.0,
        unlabelled: Count | None = None,
        **rounds: Unpack[RoundSettings],
    ) -> None:
        super().__init__(**rounds)
        self._weight, self._unlabelled = weight, unlabelled

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Refuse images that a quarter turn would change the shape of."""
        _, height, width = oracle.threat.image_shape
        if height != width:
            raise PlayerError(
                f"s4l turns images by quarters and needs square ones, got {height}x{width}; "
                f"use knockoff"
            )
        super().prepare(oracle, kit)

    def train(self, kit: Kit, *, last: bool) -> nn.Module:
        """Train a fresh clone on all answers and on turned images of the pool."""
        clone = copy.deepcopy(self._fresh)
        pixels = self.answers.pixels
        generator = torch.Generator(device=pixels.device).manual_seed(self._seed)
        both = TwoHeads(clone, pixels[:1])
        loss = RotationLoss(
            kit.pool.pixels.to(pixels.device), self._weight, self._unlabelled, generator
        )
        report = self.answers.train(both, self.recipe(), generator, loss=loss)
        if self._weight:
            clone.train()
            refresh_statistics(clone, pixels, generator)
        self.tell(report, kit)
        return clone


class TwoHeads(nn.Module):
    """A clone and a head on its features that tells four turns apart; undecided at first.

    Args:
        clone: answers.
        example: (1, c, h, w) uint8, an image that the clone takes.
    """

    def __init__(self, clone: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.clone = clone
        clone.eval()
        with torch.no_grad():
            features, _ = with_features(clone, bytes_to_unit(example))
        self.head = nn.Linear(features.shape[1], _TURNS, device="meta")
        self.head.to_empty(device=features.device)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the clone's (n, K) logits."""
        logits: Tensor = self.clone(images)
        return logits


class RotationLoss:
    """The cross-entropy of the answers plus that of the turns of some images of a pool.

    Args:
        pixels: (n, c, s, s) uint8, the pool.
        weight: of the second term.
        batch: images of the pool per step; as many as answers where None.
        generator: draws them.
    """

    def __init__(
        self, pixels: Tensor, weight: float, batch: int | None, generator: torch.Generator
    ) -> None:
        self._pixels, self._weight, self._batch = pixels, weight, batch
        self._draws = Draws(len(pixels), generator)

    def __call__(self, network: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of `TwoHeads` on a batch of answers, 0-d in nats."""
        assert isinstance(network, TwoHeads)
        answered = cross_entropy(network.clone(images), targets)
        if not self._weight:
            return answered
        index = self._draws.take(self._batch or len(images))
        turned, labels = all_turns(bytes_to_unit(self._pixels[index]))
        features, _ = with_features(network.clone, turned)
        return answered + self._weight * F.cross_entropy(network.head(features), labels)


def all_turns(images: Tensor) -> tuple[Tensor, Tensor]:
    """Turn (n, c, s, s) images by 0 to 3 quarters, counter-clockwise: (4n, c, s, s) and (4n,)."""
    turned = torch.cat([torch.rot90(images, quarters, (2, 3)) for quarters in range(_TURNS)])
    return turned, torch.arange(_TURNS, device=images.device).repeat_interleave(len(images))
