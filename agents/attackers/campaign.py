"""Plays several attackers in phases: later ones use what earlier ones found."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial

from torch import nn

from agents.attackers.confidence_filter import ConfidenceFilter
from agents.attackers.noise import Noise
from agents.base import ArchitectureGuess, Attacker, Kit
from agents.oracle_wrappers.forwarding import Allowance
from agents.timing_probe.candidates import candidates
from envs.errors import BudgetExhausted, ScenarioError
from envs.nets import registry
from envs.nets.staged import Staged
from envs.oracle import Oracle
from envs.types import ThreatModel

_ABOUT_AS_LIKELY = 0.5  # of the likeliest network's probability


class Campaign(Attacker):
    """Plays several attackers, one after another, out of one budget.

    Each phase leaves its findings in `kit.shared_findings`; the campaign adds what was inferred so
    far, as "inferred". A phase that ends early leaves its rest to those after it. The clone handed
    in is that of the last phase that has one.

    Args:
        phases: the attackers, in their order; uniform noise and then a confidence filter if
            absent. A scenario writes a list of tables with `use`, `params` and `share`.
        shares: of the budget, one per phase, in any unit; equal if absent.
        adopt: once a phase has inferred the victim's architecture, build later clones as that
            network, where it is a known one that fits the images. Where family and depth alone
            are known, it is the likeliest network of that family and depth: costs of exits do
            not tell the width, so of those about as likely the widest, which can copy them all.
            Otherwise clones are built as the scenario says.

    Notes:
        A clone of an adopted architecture has the input normalisation of the lent ones. The name
        of the network is left in `kit.shared_findings` as "adopted".

    Source:
        Reconnaissance before exfiltration is how MITRE ATLAS chains techniques, AML.T0014 before
        AML.T0024.002. What a clone's architecture is worth is measured in Orekondy et al. 2019,
        arXiv:1812.02766.
    """

    def __init__(
        self,
        *,
        phases: Sequence[Attacker] = (),
        shares: list[float] | None = None,
        adopt: bool = True,
    ) -> None:
        self._phases = list(phases) or [Noise(), ConfidenceFilter()]
        self._shares = [1.0] * len(self._phases) if shares is None else list(shares)
        if len(self._shares) != len(self._phases) or min(self._shares) <= 0:
            raise ScenarioError(
                f"expected a share above 0 for each of {len(self._phases)} phases, got {shares}"
            )
        self._adopt = adopt
        # it needs whatever its phases need
        needs = frozenset[str]().union(*(phase.requires for phase in self._phases))
        self.requires = needs  # type: ignore[misc]

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Play the phases, each with its share of what is left."""
        self._number = 0
        self._allowance: Allowance | None = None
        self.resume(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Play the phases that are left; one that can resume goes on from where it was saved."""
        while self._number < len(self._phases):
            phase, begun = self._phases[self._number], self._allowance is not None
            if self._allowance is None:
                kit.safe_point()
                self._allowance = Allowance(oracle, self._share_of(oracle), after=self._follow)
            if self._allowance.remaining or begun:
                self._play(phase, kit, begun=begun)
            self._number, self._allowance = self._number + 1, None

    def _share_of(self, oracle: Oracle) -> int:
        """Return the images that the present phase may ask."""
        last = self._number == len(self._phases) - 1
        share = self._shares[self._number] / sum(self._shares[self._number :])
        return oracle.remaining if last else round(oracle.remaining * share)

    def _play(self, phase: Attacker, kit: Kit, *, begun: bool) -> None:
        oracle = self._allowance
        assert oracle is not None
        play = phase.resume if begun else phase.attack
        lent = self._kit(oracle, kit)
        if not phase.resumable:
            lent = replace(lent, on_safe_point=_nothing)
        # the end of a phase, as it is the end of an episode
        with contextlib.suppress(BudgetExhausted):
            play(oracle, lent)
        self._follow()
        if phase.inferred is not None:
            self.inferred = merged(self.inferred, phase.inferred)
            kit.shared_findings["inferred"] = self.inferred

    def _follow(self) -> None:
        """Take the clone of the phase that plays."""
        clone = self._phases[self._number].clone
        if clone is not None:
            self.clone = clone

    def _kit(self, oracle: Oracle, kit: Kit) -> Kit:
        if not self._adopt or self.inferred is None:
            return kit
        name = self.inferred.architecture or likeliest(
            self.inferred, kit.shared_findings, oracle.threat
        )
        if name is None:
            return kit
        kit.shared_findings["adopted"] = name
        return replace(kit, new_clone=partial(_adopted, name, oracle, kit))


def _nothing() -> None:
    """Save nothing: a phase without `resume` is played from its beginning."""


def likeliest(
    guess: ArchitectureGuess, shared_findings: Mapping[str, object], threat: ThreatModel
) -> str | None:
    """Choose a network of the inferred family and depth.

    Args:
        guess: what was inferred so far.
        shared_findings: "architectures" holds probabilities by name.
        threat: says what networks are built for.

    Returns:
        The widest of those at least half as likely as the likeliest; None where family, depth
        or probabilities are unknown.
    """
    found = shared_findings.get("architectures")
    if guess.family is None or guess.depth is None or not isinstance(found, Mapping):
        return None
    fitting = {
        candidate.architecture: candidate.width
        for candidate in candidates(threat.image_shape, threat.num_classes)
        if (candidate.family, candidate.depth) == (guess.family, guess.depth)
        and candidate.architecture in found
    }
    best = max((found[name] for name in fitting), default=0.0)
    likely = [name for name in fitting if found[name] >= _ABOUT_AS_LIKELY * best]
    return max(likely, key=lambda name: (fitting[name], name), default=None)


def merged(before: ArchitectureGuess | None, after: ArchitectureGuess) -> ArchitectureGuess:
    """Lay a later guess over an earlier one: what it leaves unknown stays as it was."""
    if before is None:
        return after
    known = {
        field.name: getattr(after, field.name)
        for field in fields(after)
        if field.name != "confidence" and getattr(after, field.name) is not None
    }
    return replace(before, **known, confidence={**before.confidence, **after.confidence})


def _adopted(name: str, oracle: Oracle, kit: Kit) -> nn.Module:
    """Build a clone of a known architecture; the kit's own where it does not fit."""
    lent = kit.new_clone()
    if name not in registry.names() or not isinstance(lent, Staged):
        return lent
    if lent.architecture == name:
        return lent
    try:
        return registry.build(
            name,
            num_classes=oracle.threat.num_classes,
            image_shape=oracle.threat.image_shape,
            mean=lent.plan.mean,
            std=lent.plan.std,
            generator=kit.generator,
        ).to(kit.device)
    except ScenarioError:
        return lent
