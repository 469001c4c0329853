"""Measures how far the served answers lie from the undefended victim's.

The referee's look at the test set says what benign users get. What an attacker gets lies elsewhere:
its images are not those, and a defence may treat them otherwise. So a sample of the answers of the
game itself is compared with what the undefended victim says to the same images.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor

from envs.game.rounds import AnsweredRequest, Round

SAMPLE = 500
"""Answers of each kind of traffic that are compared, evenly spread over the budget."""

_TOGETHER = 64  # images kept until they are compared: bounds memory


class ServedSample:
    """Compares a sample of served answers with those of the undefended victim.

    Which queries are looked at depends on their position alone, and nothing is drawn: the episode
    does not notice. Everything stays on the device until it is read.

    Args:
        reference: gives the undefended victim's (n, K) posteriors of (n, c, h, w) images.
        budget: attack queries of the episode.
        benign: share of all queries that are benign, from 0 to below 1.
        ood_share: of the benign queries that are out of distribution, 0 to 1.
    """

    def __init__(
        self,
        reference: Callable[[Tensor], Tensor],
        budget: int,
        *,
        benign: float = 0.0,
        ood_share: float = 0.0,
    ) -> None:
        benign_total = budget * Fraction(benign) / (1 - Fraction(benign))
        ood = Fraction(ood_share)
        expected: dict[str, Fraction] = {
            "attack": Fraction(budget),
            "benign": benign_total * (1 - ood),
            "benign_ood": benign_total * ood,
        }
        self._sides = {name: _Side(reference, total) for name, total in expected.items()}

    def on_round(self, round: Round) -> None:
        """Sample the answers of a finished round."""
        for request in round.benign:
            self._sides["benign_ood" if request.ood else "benign"].add(request)
        self._sides["attack"].add(round.attack)

    def read(self) -> dict[str, float]:
        """Sum up what was served so far; waits for the device.

        Returns:
            For each kind of traffic that came ("attack", "benign", "benign_ood"), by the names
            KIND_distortion_mean and KIND_distortion_p95 (L1, 0 to 2), KIND_agreement (share of
            labels that are the undefended victim's) and KIND_sampled (answers compared).
        """
        return {
            f"{kind}_{name}": value
            for kind, side in self._sides.items()
            for name, value in side.read().items()
        }

    def state(self) -> dict[str, Any]:
        """Return what was sampled so far; see `restore`."""
        return {name: side.state() for name, side in self._sides.items()}

    def restore(self, state: dict[str, Any]) -> None:  # Any: as `state` returns it
        """Go on where another sample of the same episode stood."""
        for name, side in self._sides.items():
            side.restore(state[name])


class _Side:
    """The sample of one kind of traffic."""

    def __init__(self, reference: Callable[[Tensor], Tensor], expected: Fraction) -> None:
        self._reference = reference
        self._stride = max(1, math.ceil(expected / SAMPLE))
        self._asked = self._waiting = 0
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._distances: list[Tensor] = []
        self._agreed: list[Tensor] = []

    def add(self, request: AnsweredRequest) -> None:
        """Keep every so many answers, however they are grouped into requests."""
        images, posteriors = request.images, request.posteriors
        first = -self._asked % self._stride
        self._asked += len(images)
        if first >= len(images):
            return
        if request.refused is not None:
            return
        rows = slice(first, None, self._stride)
        self._kept.append((images[rows].clone(), posteriors[rows].clone()))
        self._waiting += len(self._kept[-1][0])
        if self._waiting >= _TOGETHER:
            self._compare()

    def read(self) -> dict[str, float]:
        """Give the figures; nothing where nothing came."""
        self._compare()
        if not self._distances:
            return {}
        distances, agreed = torch.cat(self._distances), torch.cat(self._agreed)
        return {
            "distortion_mean": float(distances.mean()),
            "distortion_p95": float(distances.quantile(0.95)),
            "agreement": float(agreed.double().mean()),
            "sampled": float(len(distances)),
        }

    def state(self) -> dict[str, Any]:
        # what waits is kept as it is: compared in another company it may round otherwise
        return {
            "asked": self._asked,
            "kept": list(self._kept),
            "distances": list(self._distances),
            "agreed": list(self._agreed),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self._asked, self._kept = state["asked"], list(state["kept"])
        self._waiting = sum(len(images) for images, _ in self._kept)
        self._distances, self._agreed = list(state["distances"]), list(state["agreed"])

    @torch.no_grad()
    def _compare(self) -> None:
        if not self._kept:
            return
        images, served = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
        self._kept, self._waiting = [], 0
        clean = self._reference(images)
        self._distances.append((served.double() - clean.double()).abs().sum(1))
        self._agreed.append(served.argmax(1) == clean.argmax(1))
