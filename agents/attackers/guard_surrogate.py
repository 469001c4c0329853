"""Trains guards like the victim's on its own pool, and moves images until they let them pass."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from agents.attackers.pool_rounds import PoolRounds, RoundSettings
from agents.base import Kit
from agents.learning.transfer_set import TransferSet, branch, trained
from envs.data.images import ImageSet, Splits, bytes_to_unit, to_pixels
from envs.errors import ScenarioError
from envs.nets import registry
from envs.nets.guarded import Guarded, suspicions
from envs.nets.staged import Staged
from envs.ranges import Count, Factor, Positive, Share
from envs.seeding import Streams
from envs.training.evaluation import predict
from envs.training.guards import GuardRecipe, train_guards

_AT_ONCE = 1024


class GuardSurrogate(PoolRounds):
    """Asks images that guards like the victim's would let through to the last exit.

    It knows the source code of `dnf_plus`: how guards are trained, and on which sources of OOD
    images. It knows neither the victim's weights and images nor any key. Answers to a first part
    of its pool train networks. On each it trains guards by the same recipe, with its pool in the
    place of the victim's own images. The rest of the pool is moved by gradient steps until these
    surrogates suspect it little, and asked then. The clone learns the top labels of all answers,
    because the confidences of `dnf_plus` tell nothing.

    Args:
        first_share: of the budget, asked as the pool has it.
        reach: largest change of a value of an image in [0, 1]. Each image stays near one of the
            pool, which keeps the queries different from each other.
        moves: gradient steps for each image.
        surrogates: networks with guards; what all of them let pass is likelier to pass the
            victim's.
        body: the registered network that each is built on; the victim's is not known.
        guard_steps: of the guards' training.
        trusted: share of the answers that the clone learns from, those that the surrogates
            suspect least.
        recipe, epochs, learning_rate, request, candidates, pretraining: see `PoolRounds`.

    Source:
        Ours. An attack is to be made for the defence at hand, by differentiating through a copy
        of what it does: Athalye et al. 2018, arXiv:1802.00420; Tramer et al. 2020, On adaptive
        attacks to adversarial example defenses, arXiv:2002.08347.
    """

    def __init__(
        self,
        *,
        first_share: Factor = 0.3,
        reach: Positive = 0.4,
        moves: Count = 40,
        surrogates: Count = 2,
        body: str = "conv-small",
        guard_steps: Count = 400,
        trusted: Share = 1.0,
        **rounds: Unpack[RoundSettings],
    ) -> None:
        if not 0 < first_share < 1 or not 0 < trusted <= 1:
            raise ScenarioError(
                f"expected first_share between 0 and 1 and trusted above 0 and up to 1, got "
                f"{first_share} and {trusted}"
            )
        super().__init__(**rounds)
        self._first_share, self._reach, self._moves = first_share, reach, moves
        self._guards = GuardRecipe(steps=guard_steps)
        self._count, self._body, self._trusted = surrogates, body, trusted

    def stops(self, budget: int) -> list[int]:
        """Return the end of the first part."""
        return [int(self._first_share * budget)]

    def images_to_ask(self, count: int, kit: Kit) -> Tensor:
        """Take images of the pool; after the first part, move them past the surrogate."""
        pixels = super().images_to_ask(count, kit)
        if not self._parts:
            return pixels
        surrogates = self._surrogates(kit)
        levels = usual_levels(surrogates, pixels)
        moved = [
            passing(surrogates, part, levels, reach=self._reach, moves=self._moves)
            for part in bytes_to_unit(pixels).split(_AT_ONCE)
        ]
        return to_pixels(torch.cat(moved))

    def train(self, kit: Kit, *, last: bool) -> nn.Module:
        """Train a fresh clone on the labels of all answers, or of those that are trusted."""
        answers = self.answers.hardened()
        if last and self._trusted < 1:
            answers = least_suspected(self._surrogates(kit), answers, self._trusted)
        clone, report = trained(self._fresh, answers, self.recipe(), seed=self._seed)
        self.tell(report, kit)
        return clone

    def _surrogates(self, kit: Kit) -> list[Guarded]:
        """Train networks on the answers so far, and guards on each that let the pool pass."""
        answers, made = self.answers.hardened(), []
        pixels = kit.pool.pixels.to(kit.device)
        mean, std = kit.pool.mean_std()
        for _ in range(self._count):
            streams = Streams(int(branch(self._chance).initial_seed()))
            fresh = registry.build(
                self._body,
                num_classes=self._oracle.threat.num_classes,
                image_shape=self._oracle.threat.image_shape,
                mean=mean,
                std=std,
                generator=streams.torch("body", kit.device),
            )
            body, _ = trained(fresh, answers, self.recipe(), seed=streams.integer("order"))
            assert isinstance(body, Staged)
            data = self._as_own(predict(body, pixels), pixels)
            guarded = train_guards(body, self._guards, data=data, streams=streams, victim_key={})
            made.append(guarded)
        return made

    def _as_own(self, logits: Tensor, pixels: Tensor) -> Splits:
        """Return the pool as images of the victim's own, labelled by a clone."""
        names = tuple(map(str, range(logits.shape[1])))
        own = ImageSet(pixels, logits.argmax(1), logits.shape[1], "pool", names)
        # guards are trained on the first split alone
        return Splits(own, own, own, own, own, *own.mean_std(), "pool", "")


def usual_levels(surrogates: Sequence[Guarded], pixels: Tensor) -> list[float]:
    """Return for each guard the suspicion that one of six images is below: mean less deviation."""
    with torch.no_grad():
        found = _suspicions(surrogates, bytes_to_unit(pixels[:_AT_ONCE]))
    return [float(one.mean() - one.std(unbiased=False)) for one in found]


def passing(
    surrogates: Sequence[Guarded], images: Tensor, levels: list[float], *, reach: float, moves: int
) -> Tensor:
    """Move images until guards suspect them no more than usual, or the reach is used up.

    Args:
        surrogates: networks with guards.
        images: (n, c, h, w) in [0, 1].
        levels: suspicion of each guard below which nothing is gained.
        reach: largest change of a value.
        moves: steps of Adam, each a tenth of the reach.
    """
    low, high = (images - reach).clamp_min(0), (images + reach).clamp_max(1)
    points = images.clone().requires_grad_()
    optimiser = torch.optim.Adam([points], reach / 10)
    for _ in range(moves):
        found = _suspicions(surrogates, points)
        parts = [F.softplus(one - level) for one, level in zip(found, levels, strict=True)]
        loss = torch.stack(parts).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            points.copy_(points.clamp(low, high))
    return points.detach()


def least_suspected(
    surrogates: Sequence[Guarded], answers: TransferSet, share: float
) -> TransferSet:
    """Keep the share of the answers whose images the most suspicious guard suspects least."""
    with torch.no_grad():
        parts = bytes_to_unit(answers.pixels).split(_AT_ONCE)
        found = torch.cat([torch.stack(_suspicions(surrogates, part)) for part in parts], 1)
    spread = found.std(1, keepdim=True, unbiased=False).clamp_min(1e-6)
    worst = ((found - found.mean(1, keepdim=True)) / spread).amax(0)
    kept = worst.argsort()[: max(1, round(share * len(answers)))].sort().values
    return TransferSet(answers.pixels[kept], answers.posteriors[kept])


def _suspicions(surrogates: Sequence[Guarded], images: Tensor) -> list[Tensor]:
    """Return the (n,) suspicion of each guard of each surrogate."""
    return [one for each in surrogates for one in suspicions(each, each.features(images))]
