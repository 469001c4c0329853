"""Finds the rules by which decoys are given, drops what follows them, and asks near the rest."""

from typing import Unpack

import torch
from torch import Tensor, nn

from agents.attackers.pool_rounds import PoolRounds, RoundSettings
from agents.base import Kit
from agents.learning.decoy_rules import Coordinates, Explained, explain
from agents.learning.features import features_of
from agents.learning.transfer_set import TransferSet, branch, of_pool, trained
from envs.data.images import bytes_to_unit, to_pixels
from envs.errors import ScenarioError
from envs.ranges import Amount, Count, Factor, Share
from envs.training.evaluation import predict

_FEWEST = 0.02  # share of the answers below which a filter has nothing to say
_FOLDS = 2


class RuleFinder(PoolRounds):
    """Tells decoys from answers by fitting the family of rules that decoys come from.

    It knows the source code of `dnf_plus`: a decoy is the sector of two linear projections of the
    image's thumbnail, with other projections at each exit; its confidence is borrowed and tells
    nothing. It knows no key. Such a rule has few numbers, and one mixture of some of them and of
    a clone is fitted to the answers. Blends of two images, which are smoother than any of the
    pool, mostly leave at the first guard, and tell its rule to begin with. An answer that a rule
    explains better than a clone that has not seen it is taken for a decoy. What is left of the
    budget goes to neighbours of images whose answers were taken for the network's own.

    Args:
        blends: share of the budget that goes to blends of two images, at the start.
        first_share: of the budget, spent on blends and on the pool as it is.
        reach: standard deviations by which a neighbour differs from its image, in the directions
            in which images of the pool differ from each other; 0 asks images of the pool alone.
        rules: exits that give decoys, and one more than a victim of four stages has.
        starts: fits from different starts, of which the likeliest is kept.
        steps: of each fit.
        cut: probability of being a decoy above which an answer is dropped.
        recipe, epochs, learning_rate, request, candidates, pretraining: see `PoolRounds`.

    Notes:
        Where hardly an answer is left, all are kept.

    Source:
        Ours. An attack is to be made for the defence at hand: Tramer et al. 2020, On adaptive
        attacks to adversarial example defenses, arXiv:2002.08347; the mixture is one of experts,
        Jacobs et al. 1991.
    """

    def __init__(
        self,
        *,
        blends: Factor = 0.08,
        first_share: Factor = 0.6,
        reach: Amount = 0.2,
        rules: Count = 5,
        starts: Count = 1,
        steps: Count = 300,
        cut: Share = 0.8,
        **rounds: Unpack[RoundSettings],
    ) -> None:
        if not blends < first_share < 1:
            raise ScenarioError(
                f"expected first_share above blends and below 1, got {first_share} and {blends}"
            )
        super().__init__(**rounds)
        self._blends, self._first_share = blends, first_share
        self._reach, self._cut = reach, cut
        self._rules, self._starts, self._steps = rules, starts, steps

    def stops(self, budget: int) -> list[int]:
        """Return the end of the first part."""
        return [int(self._first_share * budget)]

    def images_to_ask(self, count: int, kit: Kit) -> Tensor:
        """Take blends and images of the pool, later neighbours of images that are trusted."""
        if not self._parts:
            self._blended = round(self._blends / self._first_share * count)
            pixels = super().images_to_ask(count - self._blended, kit)
            return torch.cat([self._blend(kit), pixels])
        if not self._reach or len(self._of_pool()) < _FOLDS:
            return super().images_to_ask(count, kit)
        genuine = self._explained().shares[:, -1].clamp_min(1e-6)
        drawn = torch.multinomial(genuine, count, replacement=True, generator=self._chance)
        images = bytes_to_unit(self._of_pool().pixels)
        return to_pixels(neighbours(images, drawn, self._reach, self._chance))

    def _blend(self, kit: Kit) -> Tensor:
        """Draw the means of two images of the pool each, as pixels."""
        size = (2, self._blended)
        places = torch.randint(
            len(kit.pool), size, generator=self._chance, device=self._chance.device
        )
        first, second = (bytes_to_unit(of_pool(kit.pool, one).to(kit.device)) for one in places)
        return to_pixels((first + second) / 2)

    def _of_pool(self) -> TransferSet:
        """Return the labels of all answers but those to blends."""
        return self.answers.after(self._blended).hardened()

    def train(self, kit: Kit, *, last: bool) -> nn.Module:
        """Train a fresh clone: at the end, on the labels of answers that follow no rule."""
        answers = self._of_pool()
        if not len(answers):
            answers = self.answers.hardened()
        elif last and len(answers) >= _FOLDS:
            whole, answers = len(answers), kept(answers, self._explained(), self._cut)
            kit.report(kept=len(answers) / whole)
        clone, report = trained(self._fresh, answers, self.recipe(), seed=self._seed)
        self.tell(report, kit)
        return clone

    def _explained(self) -> Explained:
        """Fit the mixture from several starts; return the likeliest, without the blends."""
        answers, clone = self.answers.hardened(), self.clone
        assert clone is not None
        foretold = torch.full_like(answers.posteriors, 1 / answers.posteriors.shape[1])
        foretold[self._blended :] = self._foretold(self._of_pool())
        images = bytes_to_unit(answers.pixels)
        points = Coordinates(images[self._blended :])(images)
        seen = torch.cat([points, standardised(features_of(clone, answers.pixels))], 1)
        fits = [
            explain(
                points,
                answers.posteriors.argmax(1),
                foretold,
                seen=seen,
                decoys=self._blended,
                rules=self._rules,
                steps=self._steps,
                generator=branch(self._chance),
            )
            for _ in range(self._starts)
        ]
        best = max(fits, key=lambda fit: fit.likelihood)
        return best._replace(shares=best.shares[self._blended :])

    def _foretold(self, answers: TransferSet) -> Tensor:
        """Return what clones that have not seen an answer give each class, (n, K)."""
        fold = torch.arange(len(answers), device=answers.pixels.device) % _FOLDS
        foretold = torch.empty_like(answers.posteriors)
        for each in range(_FOLDS):
            others, here = fold != each, fold == each
            part = TransferSet(answers.pixels[others], answers.posteriors[others])
            clone, _ = trained(self._fresh, part, self.recipe(), seed=self._seed)
            foretold[here] = predict(clone, answers.pixels[here]).softmax(1)
        return foretold


def kept(answers: TransferSet, explained: Explained, cut: float) -> TransferSet:
    """Drop answers that are decoys with a probability above the cut; keep all if few are left."""
    genuine = explained.shares[:, -1] >= 1 - cut
    if float(genuine.float().mean()) < _FEWEST:
        return answers
    return TransferSet(answers.pixels[genuine], answers.posteriors[genuine])


def neighbours(images: Tensor, drawn: Tensor, reach: float, chance: torch.Generator) -> Tensor:
    """Move some images in the directions in which all of them differ from each other.

    Args:
        images: (n, c, h, w) in [0, 1].
        drawn: (m,) places of those that are moved.
        reach: standard deviations of the Gaussian, whose covariance is the images'.
        chance: draws it, on the images' device.

    Returns:
        (m, c, h, w) in [0, 1].
    """
    centred = (images - images.mean(0)).flatten(1) / len(images) ** 0.5
    drawn_by = torch.randn(len(drawn), len(images), generator=chance, device=images.device)
    moves = (drawn_by @ centred).view(len(drawn), *images.shape[1:])
    moved: Tensor = images[drawn] + reach * moves
    return moved.clamp(0, 1)


def standardised(features: Tensor) -> Tensor:
    """Bring (n, d) numbers to mean 0 and deviation 1, column by column."""
    spread = features.std(0, unbiased=False).clamp_min(1e-4)
    return (features - features.mean(0)) / spread
