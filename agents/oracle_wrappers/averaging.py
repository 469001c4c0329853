"""Several answers to each image: noise that is new at each query averages away."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from agents.base import Kit, OracleWrapper
from agents.learning.transfer_set import branch
from agents.oracle_wrappers.forwarding import ask, latency_of
from envs.errors import BudgetExhausted, ScenarioError
from envs.oracle import Oracle
from envs.ranges import Count
from envs.types import Response, ThreatModel, harden_labels

Combine = Literal["mean", "logit-mean", "vote", "least-confident", "slowest"]
"""How the answers to one image become one: their mean, the mean of their log-odds, the label most
of them have, the least confident one, or the one that took longest."""

Duplicates = Literal["exact", "jitter", "shift"]
"""How an image is repeated: as it is, with values moved by up to 1/255, or by up to one pixel."""

_LEAST = 1e-6  # of a probability before its log-odds


class Averaging(OracleWrapper):
    """Buys several answers to every image and makes one of them.

    It spends exactly `repeats` times the queries of the attacker behind it; up to `repeats` - 1
    images of the budget are left. Several labels make a soft answer: attackers that need soft
    labels can play for hard ones behind it.

    Args:
        repeats: answers per image, 3 to 10 are usual.
        combine: "mean" of the posteriors, "logit-mean" for noise that was added to log-odds,
            "vote" for labels; against exits drawn afresh "least-confident" or "slowest", which
            needs a visible latency.
        duplicates: "exact"; against noise that is a function of the image "jitter" (values moved
            by up to 1/255) or "shift" (by up to a pixel).

    Source:
        The smoothing attack of Tang et al. 2024, ModelGuard, USENIX Security; that noise which
        is a function of the image does not average out is Li et al. 2022, arXiv:2208.11180.
    """

    provides = frozenset({"soft-labels"})

    def __init__(
        self, *, repeats: Count = 5, combine: Combine = "mean", duplicates: Duplicates = "exact"
    ) -> None:
        if repeats < 1:
            raise ScenarioError(f"expected repeats of at least 1, got {repeats}")
        self._repeats, self._combine, self._duplicates = repeats, combine, duplicates
        if combine == "slowest":
            # what it needs depends on what it is told
            self.requires = frozenset({"latency"})

    def wrap(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Return an oracle that asks everything several times."""
        return Repeated(
            oracle,
            self._repeats,
            generator=branch(kit.generator),
            combine=self._combine,
            duplicates=self._duplicates,
        )


class Repeated:
    """Asks another oracle for each image several times and makes one answer of them.

    Args:
        oracle: what answers and charges; `repeats` images for each one asked here.
        repeats: answers per image, q.
        generator: draws near-duplicates, on the images' device.
        combine: see `Combine`; "slowest" needs a latency.
        duplicates: see `Duplicates`. Noise that is a function of the image repeats itself on an
            exact copy, and not on a near one. The first query is always the image itself.
    """

    def __init__(
        self,
        oracle: Oracle,
        repeats: Count,
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

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask each image `repeats` times, in as many requests.

        The latency is that of the answer that was chosen; the least where all of them became one.
        """
        if len(images) > self.remaining:
            raise BudgetExhausted(
                f"asked for {self._repeats} answers to each of {len(images)} images with "
                f"{self._oracle.remaining} left"
            )
        copies = [images, *(self._copy(images) for _ in range(self._repeats - 1))]
        responses = [ask(self._oracle, copy, account) for copy in copies]
        latencies = [latency_of(response, self.threat) for response in responses]
        answers = torch.stack([response.posteriors for response in responses])  # (q, n, K)
        times = torch.stack([each for each in latencies if each is not None] or [answers[0, :, 0]])
        posteriors = combined(answers, self._combine, times)
        if not self.threat.latency_visible:
            return Response(posteriors)
        chosen = choice(answers, self._combine, times)
        if chosen is None:
            return Response(posteriors, times.amin(0))
        return Response(posteriors, times.gather(0, chosen.to(times.device)[None])[0])

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
    chosen = choice(answers, how, latencies)
    if chosen is None:
        return answers.mean(0)
    picked = chosen.to(answers.device)[None, :, None].expand(1, -1, answers.shape[2])
    of_choice: Tensor = answers.gather(0, picked)
    return of_choice[0]


def choice(answers: Tensor, how: Combine, latencies: Tensor) -> Tensor | None:
    """Tell which of several answers becomes the one.

    Args:
        answers: (q, n, K) posteriors.
        how: see `Combine`.
        latencies: (q, n) seconds, read by "slowest" alone.

    Returns:
        (n,) int64, 0 to q - 1; None where the one is made of all of them.
    """
    if how == "slowest":
        return latencies.argmax(0)
    return answers.amax(2).argmin(0) if how == "least-confident" else None
