"""Exit rules with chance in them, and those that read what no server knows.

The first make repeats of an image tell more or less; the second are controls for tables.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from envs.exits.rules import PUBLISHED, ExitRule, Thresholds, check_length, log_odds, rounding
from envs.seeding import image_uniforms

Seeding = Literal["fresh", "hash"]
"""Chance of an exit rule: new at each query, or a keyed function of the image."""


class CoinThresholds(Thresholds):
    """Leave at an exit one passes only if a coin says so; the next exit asks again.

    Executes early, unlike `PassingAtRandom`: a coin is tossed for each exit up front.

    Args:
        values: confidences, one per early exit.
        take: probability of leaving at an exit one passes; 1 gives `Thresholds`.
        seeding: "hash" gives repeats of an image one exit; "fresh" coins show them all.
        key: the server's secret of "hash".
    """

    def __init__(
        self,
        values: Sequence[float] = PUBLISHED,
        take: float = 0.5,
        *,
        seeding: Seeding = "hash",
        key: int = 0,
    ) -> None:
        super().__init__(values)
        if not 0 <= take <= 1:
            raise ValueError(f"expected a probability to leave in [0, 1], got {take}")
        self.take, self.seeding, self.key = take, _check_seeding(seeding), key

    def begin(self, images: Tensor, *, generator: torch.Generator, ood: bool) -> Tensor:
        """Toss (n, N-1) coins, uniform in [0, 1)."""
        return _uniforms(images, len(self.log_odds), self.seeding, key=self.key, fresh=generator)

    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Whoever passes and has a coin below `take`."""
        passes = super().leaves(exit_index, logits, state)
        return passes & (state[:, exit_index] < self.take)

    def describe(self) -> dict[str, object]:
        """Name the rule, with its thresholds and coin."""
        return {
            **super().describe(),
            "rule": "coin-thresholds",
            "take": self.take,
            "seeding": self.seeding,
        }


class PassingAtRandom(Thresholds):
    """Draw the exit among those whose threshold is passed, and the last.

    An exit weighs exp(sharpness * log-odds above its threshold), the last one `last_weight`. All
    exits must run before the draw, so this rule saves no compute.

    Args:
        values: confidences, one per early exit, above 0.
        sharpness: preference for the more confident exits, per nat; 0 is uniform.
        last_weight: weight of the last exit, at least 0; with 0 it is taken if nobody passes.
        seeding: "hash" gives repeats of an image one exit; "fresh" draws reveal every exit.
        key: the server's secret of "hash".
    """

    needs_all_exits = True

    def __init__(
        self,
        values: Sequence[float] = PUBLISHED,
        sharpness: float = 1.0,
        *,
        last_weight: float = 1.0,
        seeding: Seeding = "hash",
        key: int = 0,
    ) -> None:
        super().__init__(values)
        if min(self.log_odds, default=0.0) == -math.inf:
            raise ValueError("expected thresholds above 0: the excess over 0 has no bound")
        if sharpness < 0 or last_weight < 0:
            raise ValueError(f"expected both at least 0, got {sharpness=}, {last_weight=}")
        self.sharpness, self.last_weight = sharpness, last_weight
        self.seeding, self.key = _check_seeding(seeding), key

    def begin(self, images: Tensor, *, generator: torch.Generator, ood: bool) -> Tensor:
        """Draw (n, 1) uniform numbers."""
        return _uniforms(images, 1, self.seeding, key=self.key, fresh=generator)

    def unsure(self, logits: Tensor, state: Tensor, *, tolerance: float) -> Tensor | None:
        """Tell who is close to a threshold, or whose draw is close to a step."""
        unsure = super().unsure(logits, state, tolerance=tolerance)
        weights = self._log_weights(logits)
        steps = weights.softmax(1).cumsum(1)[:, :-1]
        width = rounding(logits, max(1.0, self.sharpness) * tolerance).amax(0)
        drawn = ((steps - state).abs() <= width[:, None]).any(1)
        return drawn if unsure is None else unsure | drawn

    def choose(self, logits: Tensor, state: Tensor) -> Tensor:
        """Draw by inversion of the cumulative weights, in log space."""
        weights = self._log_weights(logits)  # (n, N)
        nobody = torch.isneginf(weights).all(1)
        weights[:, -1] = weights[:, -1].masked_fill(nobody, 0.0)
        steps = weights.softmax(1).cumsum(1)[:, :-1]
        drawn = (steps <= state).sum(1)
        # rounding in the cumulative sum may run past the last exit that has weight
        positions = torch.arange(weights.shape[1], device=weights.device)
        reachable = positions.masked_fill(torch.isneginf(weights), -1).amax(1)
        return torch.minimum(drawn, reachable)

    def _log_weights(self, logits: Tensor) -> Tensor:
        """Weigh the exits of each image; (n, N) float64, minus infinity where one cannot leave."""
        columns = []
        for index, threshold in enumerate(self.log_odds):
            excess = log_odds(logits[index]) - threshold
            columns.append((self.sharpness * excess).masked_fill(excess <= 0, -math.inf))
        last = math.log(self.last_weight) if self.last_weight else -math.inf
        full = torch.full((logits.shape[1],), last, dtype=torch.float64, device=logits.device)
        return torch.stack([*columns, full], 1)

    def describe(self) -> dict[str, object]:
        """Name the rule, with its thresholds and weights."""
        return {
            **super().describe(),
            "rule": "passing-at-random",
            "sharpness": self.sharpness,
            "last_weight": self.last_weight,
            "seeding": self.seeding,
        }


class ByHistogram(ExitRule):
    """Draw the exit from a fixed histogram, whatever the image: the control "random-exit".

    Args:
        shares: weight of each exit, the last one included; at least 0, not all 0.
        seeding: "fresh", or "hash" to give repeats of an image one exit.
        key: the server's secret of "hash".
    """

    def __init__(
        self, shares: Sequence[float], seeding: Seeding = "fresh", *, key: int = 0
    ) -> None:
        total = sum(shares)
        if not shares or min(shares) < 0 or not 0 < total < math.inf:
            raise ValueError(f"expected weights of exits, at least 0 and not all 0, got {shares}")
        self.shares = tuple(share / total for share in shares)
        self.seeding, self.key = _check_seeding(seeding), key

    def begin(self, images: Tensor, *, generator: torch.Generator, ood: bool) -> Tensor:
        """Draw the exit itself, as (n, 1) float64."""
        drawn = _uniforms(images, 1, self.seeding, key=self.key, fresh=generator)
        steps = torch.tensor(self.shares, dtype=torch.float64).cumsum(0)
        last = max(index for index, share in enumerate(self.shares) if share > 0)
        steps = steps[:last].to(
            images.device, non_blocking=True
        )  # rounding never reaches an exit without weight
        return (steps <= drawn).sum(1, keepdim=True).double()

    def asks(self, exit_index: int) -> bool:
        """Unless the exit has no weight."""
        return self.shares[exit_index] > 0

    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Whoever drew this exit."""
        return state[:, 0] == exit_index

    def check(self, num_exits: int) -> None:
        """Expect one weight per exit."""
        check_length("weights", len(self.shares), num_exits)

    def describe(self) -> dict[str, object]:
        """Name the rule, with its histogram."""
        return {"rule": "by-histogram", "shares": list(self.shares), "seeding": self.seeding}


class ByFlag(ExitRule):
    """OOD traffic leaves at the first exit, the rest at the last: the control "oracle-ood".

    No server has this flag; the rule shows the upper limit of the idea.
    """

    def begin(self, images: Tensor, *, generator: torch.Generator, ood: bool) -> Tensor:
        """Keep the flag, as (n, 1) float64."""
        return torch.full((len(images), 1), float(ood), dtype=torch.float64,
                          device=images.device)  # fmt: skip

    def asks(self, exit_index: int) -> bool:
        """At the first exit alone."""
        return exit_index == 0

    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Whoever is OOD."""
        return state[:, 0] > 0

    def describe(self) -> dict[str, object]:
        """Name the rule."""
        return {"rule": "by-flag"}


def _check_seeding(seeding: Seeding) -> Seeding:
    if seeding not in ("fresh", "hash"):
        raise ValueError(f"expected the seeding 'fresh' or 'hash', got {seeding!r}")
    return seeding


def _uniforms(
    images: Tensor, count: int, seeding: Seeding, *, key: int, fresh: torch.Generator
) -> Tensor:
    """Draw (n, count) float64 uniform numbers in [0, 1), fresh or by the image."""
    if seeding == "hash":
        return image_uniforms(images, key, count)
    shape = (len(images), count)
    return torch.rand(shape, dtype=torch.float64, device=images.device, generator=fresh)
