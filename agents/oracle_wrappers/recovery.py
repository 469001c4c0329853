"""Takes a known perturbation off the answers."""

from collections.abc import Callable
from functools import partial
from typing import Literal

from torch import Tensor

from agents.base import Kit, OracleWrapper
from agents.learning.transfer_set import branch
from agents.oracle_wrappers.averaging import Repeated
from agents.oracle_wrappers.forwarding import Restored
from agents.oracle_wrappers.perturbation_inverses import (
    SIMULATIONS,
    LookUp,
    keep_top,
    simulate,
    without_bias,
    without_bump,
    without_vertex,
)
from envs.errors import ScenarioError, UnknownName
from envs.oracle import Oracle
from envs.ranges import Count, Positive

Method = Literal["look-up", "bump", "de-bias"]


class Recovery(OracleWrapper):
    """Takes the perturbation of a known defence off the answers.

    Args:
        defence: what the attacker knows, or guesses, to be in force: "randp",
            "reverse-sigmoid" or "p-poison".
        strength: its L1 budget, or the height of its wave.
        method: "look-up" restores each answer from the nearest ones among simulated pairs, for
            any defence; "bump" takes the added class off ("randp", "p-poison"); "de-bias" takes
            the expected perturbation off the mean of `repeats` answers ("randp").
        preserves_top1: whether the defence keeps the top class; the simulation does so too.
        repeats: answers bought for each image.
        pairs: simulated for the look-up.
        prior: Dirichlet concentration of the posteriors they are drawn from.

    Notes:
        ModelGuard's study simulates posteriors by shadow models of the victim's kind and holds a
        million pairs. Here posteriors come from a Dirichlet distribution, answers are the mean of
        the eight nearest pairs, and pairs are kept by rank, which serves all orders of the
        classes at once. Defences that keep a model of the attacker cannot be simulated so.

    Source:
        Tang et al. 2024, ModelGuard, USENIX Security, for the look-up.
    """

    requires = frozenset({"soft-labels"})

    def __init__(
        self,
        *,
        defence: str = "randp",
        strength: float = 0.5,
        method: Method = "look-up",
        preserves_top1: bool = True,
        repeats: Count = 1,
        pairs: Count = 20_000,
        prior: Positive = 0.2,
    ) -> None:
        if defence not in SIMULATIONS:
            raise UnknownName("defence to recover from", defence, SIMULATIONS)
        fitting = {"bump": ("randp", "p-poison"), "de-bias": ("randp",)}
        if method not in ("look-up", *fitting) or defence not in fitting.get(method, (defence,)):
            raise ScenarioError(
                f"method '{method}' does not fit '{defence}'; \"look-up\" fits every defence, "
                f'"bump" randp and p-poison, "de-bias" randp'
            )
        if not 0 < strength < 2 or repeats < 1 or pairs < 8 or prior <= 0:
            raise ScenarioError(
                "expected strength between 0 and 2, repeats of at least 1, pairs of at least 8 "
                f"and prior above 0, got {strength}, {repeats}, {pairs} and {prior}"
            )
        self._defence, self._strength, self._method = defence, strength, method
        self._preserves, self._repeats = preserves_top1, repeats
        self._pairs, self._prior = pairs, prior

    def wrap(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Return an oracle whose answers are repaired on the way."""
        restore = self._restorer(oracle, kit)
        if self._repeats > 1:
            oracle = Repeated(oracle, self._repeats, generator=branch(kit.generator))
        return Restored(oracle, restore)

    def _restorer(self, oracle: Oracle, kit: Kit) -> Callable[[Tensor], Tensor]:
        strength = self._strength
        if self._method == "de-bias":
            return partial(without_bias, epsilon=strength)
        if self._method == "bump":
            without = without_bump if self._defence == "randp" else without_vertex
            return partial(_exactly, without, strength)
        return self._table(oracle, kit)

    def _table(self, oracle: Oracle, kit: Kit) -> LookUp:
        generator = branch(kit.generator)
        clean, served = simulate(
            self._pairs,
            oracle.threat.num_classes,
            defence=self._defence,
            strength=self._strength,
            prior=self._prior,
            generator=generator,
        )
        if self._preserves:
            served = keep_top(SIMULATIONS[self._defence])(clean, self._strength, generator)
        return LookUp(clean, served)


def _exactly(
    without: Callable[[Tensor, float], Tensor], strength: float, answers: Tensor
) -> Tensor:
    """Take a perturbation off in float64; returns float32."""
    return without(answers.double(), strength).float()
