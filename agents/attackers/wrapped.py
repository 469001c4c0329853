"""Attackers behind oracle wrappers: any one, and DFME under the names of three wrappers."""

from collections.abc import Sequence
from typing import Unpack

from torch import nn

from agents.attackers.dfme import DFME, LoopSettings
from agents.base import ArchitectureGuess, Attacker, Kit, OracleWrapper
from agents.oracle_wrappers import averaging, inversion, recovery
from envs.oracle import Oracle
from envs.ranges import Count, Positive


class Wrapped(Attacker):
    """Plays an attacker behind oracle wrappers.

    Args:
        attacker: who plays.
        wrappers: what is put in front of its oracle, the first next to the game.
    """

    def __init__(self, attacker: Attacker, wrappers: Sequence[OracleWrapper]) -> None:
        self._attacker, self._wrappers = attacker, tuple(wrappers)
        needs = attacker.requires
        for wrapper in reversed(self._wrappers):
            needs = (needs - wrapper.provides) | wrapper.requires
        # what it needs depends on what it is made of
        self.requires = needs  # type: ignore[misc]

    def __str__(self) -> str:
        names = " and ".join(type(wrapper).__name__ for wrapper in self._wrappers)
        return f"{self._attacker} behind {names}"

    @property
    def clone(self) -> nn.Module | None:  # type: ignore[override] # the attacker sets its own
        """The attacker's clone."""
        return self._attacker.clone

    @property
    def inferred(self) -> ArchitectureGuess | None:  # type: ignore[override] # as for `clone`
        """What the attacker inferred."""
        return self._attacker.inferred

    @property
    def resumable(self) -> bool:
        """Whether the attacker can go on from a save."""
        return self._attacker.resumable

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Put the wrappers in front of the oracle, then let the attacker play."""
        for wrapper in self._wrappers:
            oracle = wrapper.wrap(oracle, kit)
        self._oracle = oracle
        self._attacker.attack(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Let the attacker go on through the wrappers that were saved with it."""
        self._attacker.resume(self._oracle, kit)


class Averaging(Wrapped):
    """Plays DFME and asks every image several times, finite differences included.

    Args:
        repeats, combine, duplicates: see `agents.oracle_wrappers.averaging.Averaging`.
        **dfme: as for `DFME`.

    Source:
        The smoothing attack of Tang et al. 2024, ModelGuard, USENIX Security.
    """

    def __init__(
        self,
        *,
        repeats: Count = 5,
        combine: averaging.Combine = "mean",
        duplicates: averaging.Duplicates = "exact",
        **dfme: Unpack[LoopSettings],
    ) -> None:
        wrapper = averaging.Averaging(repeats=repeats, combine=combine, duplicates=duplicates)
        super().__init__(DFME(**dfme), [wrapper])


class Recovery(Wrapped):
    """Plays DFME on answers from which a known defence's perturbation was taken off.

    Args:
        defence, strength, method, preserves_top1, repeats, pairs, prior: see
            `agents.oracle_wrappers.recovery.Recovery`.
        **dfme: as for `DFME`.

    Source:
        Tang et al. 2024, ModelGuard, USENIX Security, for the look-up.
    """

    def __init__(
        self,
        *,
        defence: str = "randp",
        strength: float = 0.5,
        method: recovery.Method = "look-up",
        preserves_top1: bool = True,
        repeats: Count = 1,
        pairs: Count = 20_000,
        prior: Positive = 0.2,
        **dfme: Unpack[LoopSettings],
    ) -> None:
        wrapper = recovery.Recovery(
            defence=defence,
            strength=strength,
            method=method,
            preserves_top1=preserves_top1,
            repeats=repeats,
            pairs=pairs,
            prior=prior,
        )
        super().__init__(DFME(**dfme), [wrapper])


class Inversion(Wrapped):
    """Plays DFME on answers that were checked with labelled images, and turned round if wrong.

    Args:
        labelled, sigmas: see `agents.oracle_wrappers.inversion.Inversion`.
        **dfme: as for `DFME`.

    Source:
        No published attack; see the wrapper for what it follows.
    """

    def __init__(
        self, *, labelled: Count = 100, sigmas: Positive = 3.0, **dfme: Unpack[LoopSettings]
    ) -> None:
        wrapper = inversion.Inversion(labelled=labelled, sigmas=sigmas)
        super().__init__(DFME(**dfme), [wrapper])
