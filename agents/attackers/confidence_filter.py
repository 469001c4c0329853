"""Learns from the unsure answers of a multi-exit victim: they come from its last exit."""

from typing import ClassVar, Literal, Unpack

import torch
from torch import Tensor

from agents.attackers.dfme import LoopSettings
from agents.attackers.filtering import FilteredDFME
from agents.base import ArchitectureGuess, Kit
from agents.timing_probe.confidence_jumps import first_jump
from agents.timing_probe.thresholds import are_alike
from envs.errors import ScenarioError
from envs.oracle import Oracle
from envs.ranges import Amount, Count, Positive
from envs.types import Response

_MARGIN = 1e-6  # float32 posteriors round to either side of a threshold
_EVERYTHING = 1.0 + 1e-5


class ConfidenceFilter(FilteredDFME):
    """Discards every answer above the least threshold of a multi-exit victim.

    An answer of an early exit is more confident than that exit's threshold. So an answer below
    the least of them is certainly of the last exit, and not of those that the defence perturbs.

    Args:
        threshold: the least threshold, if known (0.90 in the released code); from an earlier
            phase of a campaign, or else from the density of served confidences, if absent.
        look: answers from which it is estimated, at most a tenth of the budget.
        constant: keep confident answers too, but for classes with more than `constant` / K of
            them: early answers to OOD images collapse to one class. 3 is a fair value.
        aversion: weight in the generator's loss of what the clone's confidence exceeds the
            threshold by, so that its images stay with the last exit.
        images: "generator", or "pool" for images of the surrogate pool.
        drop_jumps: leave out finite differences above this multiple of the median one: those
            across an exit are meaningless.
        **dfme: as for `DFME`.

    Notes:
        If no jump is found, nothing is discarded. If the victim sends all of
        the attacker's images out early, nothing is left to learn from: take `images = "pool"`
        with images nearer to the victim's own, or `constant`.

    Source:
        The exit rule of Luan et al. 2025, Dynamic Neural Fortresses, ICLR, of which the filter is
        a consequence; nobody has published it.
    """

    requires: ClassVar[frozenset[str]] = frozenset({"soft-labels"})

    def __init__(
        self,
        *,
        threshold: float | None = None,
        look: Count = 5000,
        constant: float | None = None,
        aversion: Amount = 0.0,
        images: Literal["generator", "pool"] = "generator",
        drop_jumps: Positive | None = None,
        **dfme: Unpack[LoopSettings],
    ) -> None:
        if threshold is not None and not 0 < threshold <= 1:
            raise ScenarioError(f"expected a threshold in (0, 1], got {threshold}")
        if aversion < 0 or (constant is not None and constant <= 0):
            raise ScenarioError("expected aversion of at least 0 and constant above 0")
        super().__init__(cut=threshold, look=look, images=images, drop_jumps=drop_jumps, **dfme)
        self._constant, self._aversion = constant, aversion
        self._synthesising = False

    def prepare(self, oracle: Oracle, kit: Kit) -> None:
        """Start counting confident answers by class."""
        super().prepare(oracle, kit)
        self._confident = torch.zeros(oracle.threat.num_classes, device=kit.device)

    def known(self, kit: Kit) -> float | None:
        """Return the least threshold that an earlier phase found."""
        return least_threshold(kit)

    def measure(self, response: Response) -> Tensor:
        """Return the served confidences."""
        return response.posteriors.amax(1)

    def estimate(self, values: Tensor, oracle: Oracle) -> float:
        """Find the first jump of the confidences; without one nothing is discarded."""
        jump = first_jump(values)
        # a constant that is served above it is somebody's choice, and no threshold
        if jump is not None and not are_alike(values[values > jump]):
            self.inferred = ArchitectureGuess(thresholds=(jump,))
        return _EVERYTHING if jump is None else jump

    def keep(self, images: Tensor, response: Response) -> Tensor | None:
        """Keep the unsure answers; with `constant`, also the sure ones of no dominant class."""
        assert self.cut is not None
        targets = response.posteriors.to(self._confident.device)
        unsure = targets.amax(1) <= self.cut - _MARGIN
        if self._constant is None:
            return unsure
        labels = targets.argmax(1)
        self._confident.index_add_(0, labels, (~unsure).float())
        shares = self._confident / self._confident.sum().clamp_min(1)
        dominant = shares > self._constant / len(shares)
        return unsure | ~dominant[labels]

    def generator_step(self, oracle: Oracle, kit: Kit) -> None:
        """Move the generator as DFME does, away from what would leave early."""
        self._synthesising = True
        try:
            super().generator_step(oracle, kit)
        finally:
            self._synthesising = False

    def disagreement(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Measure the disagreement, less the aversion in the generator's step."""
        plain = super().disagreement(logits, targets)
        if not self._synthesising or not self._aversion or self.cut is None:
            return plain
        return plain - self._aversion * (logits.softmax(1).amax(1) - self.cut).clamp_min(0)


def least_threshold(kit: Kit) -> float | None:
    """Return the least threshold among what earlier phases wrote into `kit.shared_findings`."""
    found = kit.shared_findings.get("thresholds")
    if found is None:
        guess = kit.shared_findings.get("inferred")
        found = guess.thresholds if isinstance(guess, ArchitectureGuess) else None
    if not isinstance(found, list | tuple):
        return None
    return min((float(value) for value in found if 0 < float(value) < 1), default=None)
