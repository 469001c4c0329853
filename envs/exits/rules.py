"""Exit rules: at which exit each image leaves a multi-exit network.

Exits are counted 0 .. N-1 here, the last being the original classifier (exit N of the papers).
Confidences are compared as log-odds in float64, because a float32 softmax saturates at 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

PUBLISHED = (0.90, 0.92, 0.94, 0.96)
"""Thresholds of the released Dynamic Neural Fortress, the same in all its settings."""


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


class ExitDecision(NamedTuple):
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

    def begin(self, images: Tensor, *, generator: torch.Generator, ood: bool) -> Tensor:
        """Draw what is decided up front; returns (n, d) float64 rows, by default of width 0.

        Args:
            images: (n, c, h, w) in [0, 1].
            generator: the stream of fresh chance, on the images' device.
            ood: the simulator's hidden flag "out of distribution", read by controls alone.
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

    def judge(
        self, exit_index: int, logits: Tensor, state: Tensor, *, tolerance: float
    ) -> ExitDecision:
        """Decide as `leaves` does, and tell who is so close that rounding could decide otherwise.

        Args:
            exit_index: 0 .. N-2.
            logits: (n, K) of that exit, for the images still inside.
            state: their (n, d) rows from `begin`.
            tolerance: see `rounding`.
        """
        return ExitDecision(self.leaves(exit_index, logits, state), None)

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

    def judge(
        self, exit_index: int, logits: Tensor, state: Tensor, *, tolerance: float
    ) -> ExitDecision:
        """Compare the confidences once, with the threshold and with its surroundings."""
        scores, threshold = log_odds(logits), self.log_odds[exit_index]
        # a subclass decides by its own `leaves`
        own = type(self).leaves is not Thresholds.leaves
        leaves = self.leaves(exit_index, logits, state) if own else scores > threshold
        return ExitDecision(leaves, (scores - threshold).abs() <= rounding(logits, tolerance))

    def check(self, num_exits: int) -> None:
        """Expect one threshold per early exit."""
        check_length("thresholds", len(self.log_odds), num_exits - 1)

    def describe(self) -> dict[str, object]:
        """Name the rule, with its thresholds."""
        return {"rule": "thresholds", "thresholds": list(self.values)}


def check_length(what: str, got: int, expected: int) -> None:
    """Check that a rule has as many values as the network wants; ValueError if not."""
    if got != expected:
        raise ValueError(f"expected {expected} {what} for this network, got {got}")
