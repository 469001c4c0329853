"""Exit rules: at which exit each image leaves a multi-exit network.

Exits are counted 0 .. N-1 here, the last being the original classifier (exit N of the papers).
Confidences are compared as log-odds in float64, because a float32 softmax saturates at 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from envs.seeding import image_uniforms

PUBLISHED = (0.90, 0.92, 0.94, 0.96)
"""Thresholds of the released Dynamic Neural Fortress, the same in all its settings."""

Seeding = Literal["fresh", "hash"]
"""Chance of an exit rule: new at each query, or a keyed function of the image."""


def log_odds(logits: Tensor) -> Tensor:
    """Measure the confidence c of the most likely class as log(c / (1 - c)).

    Args:
        logits: (n, K) of any float type, K at least 2.

    Returns:
        (n,) float64 in nats, at least -log(K - 1); does not saturate where softmax does.
    """
    logits = logits.double()
    top, index = logits.max(1, keepdim=True)
    others = logits.scatter(1, index, -math.inf)
    return top.squeeze(1) - others.logsumexp(1)


def rounding(logits: Tensor, tolerance: float) -> Tensor:
    """Bound how far rounding moves a confidence; it grows with the size of the logits.

    Args:
        logits: (..., n, K).
        tolerance: in nats, for logits within 16 nats; in proportion beyond.

    Returns:
        (..., n) float64 in nats.
    """
    return tolerance * (logits.abs().amax(-1).double() / 16).clamp_min(1)


def to_log_odds(confidence: float) -> float:
    """Turn a threshold of confidence into log-odds: at 0 all pass, at 1 and above none."""
    if math.isnan(confidence):
        raise ValueError("expected a confidence threshold, got NaN")
    if confidence <= 0:
        return -math.inf
    return math.inf if confidence >= 1 else math.log(confidence) - math.log1p(-confidence)


def from_log_odds(value: float) -> float:
    """Turn log-odds into a confidence in [0, 1]."""
    if value < 0:
        odds = math.exp(value)
        return odds / (1 + odds)
    return 1 / (1 + math.exp(-value))


class Verdict(NamedTuple):
    """What a rule decides at an exit, and how firmly.

    Attributes:
        leaves: (n,) bool.
        close: (n,) bool, decisions that rounding could turn; None where nothing hangs on it.
    """

    leaves: Tensor
    close: Tensor | None


class ExitRule(ABC):
    """Decides, image by image and exit by exit, who leaves.

    A rule sees one exit at a time, so that whoever leaves is computed no further. What it needs
    to know of an image before the network runs (chance, a flag) it draws in `begin`.
    """

    needs_all_exits: ClassVar[bool] = False
    """True where the choice compares all exits: every stage then runs, and nothing is saved."""

    def begin(self, images: Tensor, *, generator: torch.Generator, foreign: bool) -> Tensor:
        """Draw what is decided up front; returns (n, d) float64 rows, by default of width 0.

        Args:
            images: (n, c, h, w) in [0, 1].
            generator: the stream of fresh chance, on the images' device.
            foreign: the simulator's hidden flag "out of distribution", read by controls alone.
        """
        return torch.empty((len(images), 0), dtype=torch.float64, device=images.device)

    def asks(self, exit_index: int) -> bool:
        """Tell whether anybody can leave at this early exit; if not, its head need not run."""
        return True

    @abstractmethod
    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Tell who leaves at an early exit, as (n,) bool.

        Args:
            exit_index: 0 .. N-2.
            logits: (n, K) of that exit, for the images still inside.
            state: their (n, d) rows from `begin`.
        """

    def judge(self, exit_index: int, logits: Tensor, state: Tensor, *, tolerance: float) -> Verdict:
        """Decide as `leaves` does, and tell who is so close that rounding could decide otherwise.

        Args:
            exit_index: 0 .. N-2.
            logits: (n, K) of that exit, for the images still inside.
            state: their (n, d) rows from `begin`.
            tolerance: see `rounding`.
        """
        return Verdict(self.leaves(exit_index, logits, state), None)

    def unsure(self, logits: Tensor, state: Tensor, *, tolerance: float) -> Tensor | None:
        """Tell whose choice from the (N, n, K) logits rounding could turn; None: nobody's."""
        unsure: Tensor | None = None
        for index in range(len(logits) - 1):
            if self.asks(index):
                close = self.judge(index, logits[index], state, tolerance=tolerance).close
                if close is not None:
                    unsure = close if unsure is None else unsure | close
        return unsure

    def choose(self, logits: Tensor, state: Tensor) -> Tensor:
        """Choose an exit for each image from the (N, n, K) logits of all exits; (n,) int64."""
        last = len(logits) - 1
        exits = torch.full((logits.shape[1],), last, dtype=torch.int64, device=logits.device)
        for index in reversed(range(last)):
            if self.asks(index):
                exits = exits.masked_fill(self.leaves(index, logits[index], state), index)
        return exits

    def check(self, num_exits: int) -> None:  # noqa: B027 - most rules fit any network
        """Raise ValueError where the rule does not fit a network with this many exits."""

    @abstractmethod
    def describe(self) -> dict[str, object]:
        """Name the rule and its parameters, in values that JSON knows."""


class FinalOnly(ExitRule):
    """Nobody leaves early: the undefended answer."""

    def asks(self, exit_index: int) -> bool:
        """Never."""
        return False

    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Nobody."""
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)

    def describe(self) -> dict[str, object]:
        """Name the rule."""
        return {"rule": "final"}


class Thresholds(ExitRule):
    """Leave at the first exit whose confidence is strictly above its threshold.

    Args:
        values: confidences, one per early exit; 0 lets everybody leave, 1 and above nobody.

    Source:
        Luan et al., Dynamic Neural Fortresses, ICLR 2025, released inference code.
    """

    def __init__(self, values: Sequence[float] = PUBLISHED) -> None:
        self.log_odds = tuple(to_log_odds(value) for value in values)

    @classmethod
    def from_log_odds(cls, values: Sequence[float]) -> "Thresholds":
        """Build the rule from log-odds, which tell confidences near 1 apart."""
        rule = cls(())
        rule.log_odds = tuple(float(value) for value in values)
        return rule

    @property
    def values(self) -> tuple[float, ...]:
        """The thresholds as confidences, one per early exit."""
        return tuple(from_log_odds(value) for value in self.log_odds)

    def asks(self, exit_index: int) -> bool:
        """Unless the threshold is 1 or above."""
        return self.log_odds[exit_index] < math.inf

    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Whoever is more confident than the threshold."""
        return log_odds(logits) > self.log_odds[exit_index]

    def judge(self, exit_index: int, logits: Tensor, state: Tensor, *, tolerance: float) -> Verdict:
        """Compare the confidences once, with the threshold and with its surroundings."""
        scores, threshold = log_odds(logits), self.log_odds[exit_index]
        # a subclass decides by its own `leaves`
        own = type(self).leaves is not Thresholds.leaves
        leaves = self.leaves(exit_index, logits, state) if own else scores > threshold
        return Verdict(leaves, (scores - threshold).abs() <= rounding(logits, tolerance))

    def check(self, num_exits: int) -> None:
        """Expect one threshold per early exit."""
        _check_length("thresholds", len(self.log_odds), num_exits - 1)

    def describe(self) -> dict[str, object]:
        """Name the rule, with its thresholds."""
        return {"rule": "thresholds", "thresholds": list(self.values)}


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

    def begin(self, images: Tensor, *, generator: torch.Generator, foreign: bool) -> Tensor:
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

    def begin(self, images: Tensor, *, generator: torch.Generator, foreign: bool) -> Tensor:
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

    def begin(self, images: Tensor, *, generator: torch.Generator, foreign: bool) -> Tensor:
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
        _check_length("weights", len(self.shares), num_exits)

    def describe(self) -> dict[str, object]:
        """Name the rule, with its histogram."""
        return {"rule": "by-histogram", "shares": list(self.shares), "seeding": self.seeding}


class ByFlag(ExitRule):
    """Foreign traffic leaves at the first exit, the rest at the last: the control "oracle-ood".

    No server has this flag; the rule shows the upper limit of the idea.
    """

    def begin(self, images: Tensor, *, generator: torch.Generator, foreign: bool) -> Tensor:
        """Keep the flag, as (n, 1) float64."""
        return torch.full((len(images), 1), float(foreign), dtype=torch.float64,
                          device=images.device)  # fmt: skip

    def asks(self, exit_index: int) -> bool:
        """At the first exit alone."""
        return exit_index == 0

    def leaves(self, exit_index: int, logits: Tensor, state: Tensor) -> Tensor:
        """Whoever is foreign."""
        return state[:, 0] > 0

    def describe(self) -> dict[str, object]:
        """Name the rule."""
        return {"rule": "by-flag"}


def _check_seeding(seeding: Seeding) -> Seeding:
    if seeding not in ("fresh", "hash"):
        raise ValueError(f"expected the seeding 'fresh' or 'hash', got {seeding!r}")
    return seeding


def _check_length(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise ValueError(f"expected {expected} {what} for this network, got {got}")


def _uniforms(
    images: Tensor, count: int, seeding: Seeding, *, key: int, fresh: torch.Generator
) -> Tensor:
    """Draw (n, count) float64 uniform numbers in [0, 1), fresh or by the image."""
    if seeding == "hash":
        return image_uniforms(images, key, count)
    shape = (len(images), count)
    return torch.rand(shape, dtype=torch.float64, device=images.device, generator=fresh)
