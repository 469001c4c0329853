"""SEAT: tells an attacker by pairs of similar images among its queries, as an encoder sees them.

Source:
    Zhang, Chen and Wagner 2021, SEAT: similarity encoder by adversarial training for detecting
    model extraction attack queries, AISec, doi:10.1145/3474369.3486863.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agents.base import DefenderKit
from agents.defenders.countermeasures import Step
from agents.defenders.flagging import Calibrated
from agents.defenders.owners_traffic import moved
from agents.defenders.query_drift import fingerprints, nearest_before
from envs.errors import PlayerError
from envs.game.rounds import View
from envs.ranges import Count, Share

MARGIN = 10.0
"""Squared distance that two images of an owner's should have, out of 40."""

RADIUS, STEP = 8 / 255, 2 / 255
"""Largest change of a pixel by an adversarial copy, and by each step towards it."""

MOST = 5000
"""Latest queries of an account that are compared, at most."""

_PAIRS = 20_000  # of the owner's images, by which closeness is calibrated


class Seat(Calibrated):
    """Flags an account that asks many pairs of similar images.

    A copy of the victim without its classifier learns an encoding in which copies of an image lie
    close together, moved ones and adversarial ones, and different images of the owner's lie apart:
    it minimises d(x, copy) + max(0, 10 - d(x, other)), where d is ten times the squared distance of
    the encodings at unit length. A query is similar where d to its nearest earlier query of the
    account is small. The score is the number of such queries.

    Other parameters are those of `agents.defenders.flagging.Calibrated`.

    Args:
        steps: of training, one batch each.
        batch: images of a batch.
        perturbations: steps of the attack that makes adversarial copies.
        closeness: share of pairs of different validation images that count as similar.
        limit: similar queries that are still no reason for a flag; 49 stands for the 50 of
            others' code. Calibrated where absent.

    Raises:
        PlayerError: a parameter out of range.
        NotGranted: the victim runs elsewhere, or cannot be trained further.

    Notes:
        The paper could not be read in full, so that sizes are ours: few steps of few perturbations,
        closeness and limit by calibration. The negative of an image is another image of the
        owner's; the code that others released takes an adversarial copy, which is pushed away. The
        encoder keeps the victim's batch statistics. Exact repeats of an image are no pairs.
    """

    def __init__(
        self,
        *,
        steps: Count = 40,
        batch: Count = 64,
        perturbations: Count = 5,
        closeness: Share = 1e-4,
        limit: float | None = None,
        false_alarms: Share = 0.01,
        calibration: Count = 100,
        queries: Count = 200,
        calm: Step | None = None,
        flagged: Step | None = None,
        most_clients: Count = 1000,
    ) -> None:
        super().__init__(
            limit=limit,
            false_alarms=false_alarms,
            calibration=calibration,
            queries=queries,
            calm=calm,
            flagged=flagged,
            most_clients=most_clients,
        )
        if steps < 1 or batch < 2 or perturbations < 1 or not 0 < closeness < 1:
            raise PlayerError(
                f"expected steps >= 1, batch >= 2, perturbations >= 1 and a closeness between 0 "
                f"and 1, got {steps}, {batch}, {perturbations} and {closeness}"
            )
        self._steps, self._batch, self._perturbations = steps, batch, perturbations
        self._closeness = closeness

    def fit(self, kit: DefenderKit) -> None:
        """Train the encoder, and say which distance is small."""
        self._encoder = Encoder(kit.victim.network())
        optimizer = torch.optim.SGD(self._encoder.parameters(), lr=1e-3, momentum=0.9,
                                    weight_decay=5e-4)  # fmt: skip
        for _ in range(self._steps):
            index = torch.randint(len(kit.train), (self._batch,), generator=kit.generator,
                                  device=kit.device)  # fmt: skip
            self._train_on(kit.train.images(index), optimizer, kit.generator)
        self._encoder.requires_grad_(False)
        codes = self._encoder.encode(kit.validation.images())
        self._close = small_distance(codes, self._closeness, kit.generator)

    def new_score(self) -> "SimilarPairs":
        """Return the score of an account that has not asked yet."""
        return SimilarPairs(self._encoder, self._close)

    def _train_on(
        self, images: Tensor, optimizer: torch.optim.Optimizer, generator: torch.Generator
    ) -> None:
        """Take a step: half of the copies are moved, half adversarial; the others are the next."""
        half = len(images) // 2
        copies = torch.cat(
            [
                moved(images[:half], generator),
                adversarial(self._encoder, images[half:], self._perturbations, generator),
            ]
        )
        loss = triple_loss(*(self._encoder(part) for part in (images, copies, images.roll(1, 0))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


class Encoder(nn.Module):
    """Maps images to codes of unit length."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, width) codes of (n, c, h, w) images."""
        return F.normalize(self.network(images).flatten(1), dim=1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return codes, part by part and without gradients."""
        return torch.cat([self(part) for part in images.split(512)])


class SimilarPairs:
    """Counts the similar queries of one account."""

    def __init__(self, encoder: Encoder, close: float) -> None:
        self._encoder, self._close = encoder, close
        self._seen: set[int] = set()
        self._codes: Tensor | None = None
        self.count = 0

    def add(self, view: View) -> float:
        """Take a request; returns the number of similar queries so far."""
        images = view.images
        fresh = []
        for place, print_ in enumerate(fingerprints(images).tolist()):
            if print_ not in self._seen:
                self._seen.add(print_)
                fresh.append(place)
        if fresh:
            self._compare(self._encoder.encode(images[fresh]))
        return float(self.count)

    def _compare(self, codes: Tensor) -> None:
        known = codes[:0] if self._codes is None else self._codes
        of_one_kind = [torch.zeros(len(part), device=codes.device) for part in (codes, known)]
        nearest = nearest_before(codes, of_one_kind[0], known, of_one_kind[1])
        self.count += int((10 * nearest.square() < self._close).sum())
        self._codes = torch.cat([known, codes])[-MOST:]


def distances(codes: Tensor, others: Tensor) -> Tensor:
    """Return (n,) distances between codes of unit length, 0 to 40."""
    return 10 * (codes - others).square().sum(1)


def triple_loss(codes: Tensor, copies: Tensor, others: Tensor) -> Tensor:
    """Return the loss of codes, those of copies and those of other images, all (n, width)."""
    apart = (MARGIN - distances(codes, others)).clamp_min(0)
    return (distances(codes, copies) + apart).mean()


def adversarial(encoder: Encoder, images: Tensor, steps: int, generator: torch.Generator) -> Tensor:
    """Return copies that the encoder takes for other images, each pixel at most 8/255 off.

    Source:
        Projected gradient ascent of Madry et al. 2018, ICLR, arXiv:1706.06083.
    """
    codes = encoder(images).detach()
    start = torch.rand(images.shape, generator=generator, device=images.device)
    change = (2 * start - 1) * RADIUS
    for _ in range(steps):
        change.requires_grad_(True)
        copies = encoder((images + change).clamp(0, 1))
        (slope,) = torch.autograd.grad(distances(codes, copies).sum(), change)
        change = (change.detach() + STEP * slope.sign()).clamp(-RADIUS, RADIUS)
    return (images + change).clamp(0, 1).detach()


def small_distance(codes: Tensor, share: float, generator: torch.Generator) -> float:
    """Return the distance that this share of pairs of different images is below."""
    left, right = (
        torch.randint(len(codes), (_PAIRS,), generator=generator, device=codes.device)
        for _ in range(2)
    )
    different = left != right
    found = distances(codes[left[different]], codes[right[different]])
    return float(found.double().quantile(share)) if len(found) else 0.0
