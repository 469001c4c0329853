"""Oracles in front of the oracle: what an attacker does to every request and every answer.

Each is an oracle itself, so that an attacker plays on without knowing. The ledger stays where it
was: the innermost oracle charges what really reaches the victim.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from envs.errors import BudgetExhausted
from envs.oracle import Oracle
from envs.types import Response, ThreatModel, harden_labels

Combine = Literal["mean", "logit-mean", "vote", "least-confident", "slowest"]
"""What becomes of the answers to one image: their mean, the mean of their log-odds, the label most
of them have, the one that is least sure, or the one that took longest."""

Duplicates = Literal["exact", "jitter", "shift"]
"""How an image is repeated: as it is, with values moved by up to 1/255, or by up to one pixel."""

_LEAST = 1e-6  # of a probability before its log-odds


class Allowance:
    """A share of another oracle's budget.

    Args:
        oracle: what answers and charges.
        count: images that may be asked here, as far as `oracle` has them left.
        after: called after every answer.
    """

    def __init__(
        self, oracle: Oracle, count: int, *, after: Callable[[], None] = lambda: None
    ) -> None:
        self._oracle, self._left, self._after = oracle, count, after
        self.threat: ThreatModel = replace(oracle.threat, budget=self.remaining)

    @property
    def remaining(self) -> int:
        """Images that may still be asked here."""
        return min(self._left, self._oracle.remaining)

    def query(self, images: Tensor) -> Response:
        """Ask for answers; see `envs.oracle.Oracle.query`."""
        if len(images) > self.remaining:
            raise BudgetExhausted(
                f"asked for {len(images)} answers with {self.remaining} of this phase's "
                f"{self.threat.budget} left"
            )
        response = self._oracle.query(images)
        self._left -= len(images)
        self._after()
        return response


class Restored:
    """Repairs the answers of another oracle.

    Args:
        oracle: what answers and charges.
        restore: maps served (n, K) answers to (n, K) repaired ones on the simplex.
    """

    def __init__(self, oracle: Oracle, restore: Callable[[Tensor], Tensor]) -> None:
        self._oracle, self._restore = oracle, restore

    @property
    def threat(self) -> ThreatModel:
        """What may be asked and what an answer shows."""
        return self._oracle.threat

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        return self._oracle.remaining

    def query(self, images: Tensor) -> Response:
        """Ask for answers and repair them."""
        response = self._oracle.query(images)
        return Response(self._restore(response.posteriors), latency_of(response, self.threat))


class Repeated:
    """Asks every image several times and makes one answer of them.

    Args:
        oracle: what answers and charges; `repeats` images for each one asked here.
        repeats: answers per image, q.
        generator: draws near-duplicates, on the images' device.
        combine: see `Combine`; "slowest" needs a latency.
        duplicates: see `Duplicates`. Noise that is a function of the image repeats itself on an
            exact copy, and not on a near one. The first question is always the image itself.
    """

    def __init__(
        self,
        oracle: Oracle,
        repeats: int,
        *,
        generator: torch.Generator,
        combine: Combine = "mean",
        duplicates: Duplicates = "exact",
    ) -> None:
        self._oracle, self._repeats, self._generator = oracle, repeats, generator
        self._combine, self._duplicates = combine, duplicates
        self.threat: ThreatModel = replace(oracle.threat, budget=self.remaining)

    @property
    def remaining(self) -> int:
        """Images that may still be asked, each of them `repeats` times."""
        return self._oracle.remaining // self._repeats

    def query(self, images: Tensor) -> Response:
        """Ask each image `repeats` times, in as many requests."""
        if len(images) > self.remaining:
            raise BudgetExhausted(
                f"asked for {self._repeats} answers to each of {len(images)} images with "
                f"{self._oracle.remaining} left"
            )
        copies = [images, *(self._copy(images) for _ in range(self._repeats - 1))]
        responses = [self._oracle.query(copy) for copy in copies]
        latencies = [latency_of(response, self.threat) for response in responses]
        answers = torch.stack([response.posteriors for response in responses])  # (q, n, K)
        times = torch.stack([each for each in latencies if each is not None] or [answers[0, :, 0]])
        targets = combined(answers, self._combine, times)
        return Response(targets, times.amin(0) if self.threat.latency_visible else None)

    def _copy(self, images: Tensor) -> Tensor:
        if self._duplicates == "exact":
            return images
        if self._duplicates == "jitter":
            steps = self._integers(images.shape, images.device)
            return (images + steps / 255).clamp(0, 1)
        down, right = self._integers(torch.Size([2]), images.device).tolist()
        return torch.roll(images, (down, right), (2, 3))

    def _integers(self, shape: torch.Size, device: torch.device) -> Tensor:
        """Draw -1, 0 or 1."""
        return torch.randint(-1, 2, shape, generator=self._generator, device=device)


def combined(answers: Tensor, how: Combine, latencies: Tensor) -> Tensor:
    """Make one answer of several.

    Args:
        answers: (q, n, K) posteriors.
        how: see `Combine`.
        latencies: (q, n) seconds, read by "slowest" alone.

    Returns:
        (n, K) posteriors of the same dtype.
    """
    if how == "vote":
        votes = torch.stack([harden_labels(each) for each in answers]).sum(0)
        return harden_labels(votes).to(answers.dtype)
    if how == "logit-mean":
        odds = torch.logit(answers.double(), eps=_LEAST).mean(0).sigmoid()
        odds = odds / odds.sum(1, keepdim=True)
        return odds.to(answers.dtype)
    if how == "mean":
        return answers.mean(0)
    chosen = answers.amax(2).argmin(0) if how == "least-confident" else latencies.argmax(0)
    picked = chosen.to(answers.device)[None, :, None].expand(1, -1, answers.shape[2])
    of_choice: Tensor = answers.gather(0, picked)
    return of_choice[0]


def latency_of(response: Response, threat: ThreatModel) -> Tensor | None:
    """Return the (n,) seconds of answers where the threat model shows them, else None."""
    return response.latency if threat.latency_visible else None
