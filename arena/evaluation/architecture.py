"""Scores what an attacker believes about the victim's construction against the truth."""

from collections.abc import Sequence
from dataclasses import fields

from agents.base import ArchitectureGuess
from agents.timing_probe.candidates import SAME_COST
from agents.timing_probe.mixture import LEAST_WEIGHT
from arena.log.rows import InferenceRow
from arena.log.writer import EpisodeWriter
from envs.defences.base import DeployedDefence
from envs.victim.victim import Victim

COST_TOLERANCE = 0.1
"""An exit's relative cost counts as found within a tenth."""

THRESHOLD_TOLERANCE = 0.01


def visited_exits(victim: Victim, answers: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Group the exits that answered the attacker by what they cost.

    Exits whose costs differ by less than half a percent of the whole network cannot be told
    apart by any clock, so that they count as one; an exit with less than 0.4 % of the answers
    counts as not visited.

    Args:
        victim: who answered.
        answers: to the attacker, by exit.

    Returns:
        The visited exits, the cheapest group first; empty where nothing was answered.
    """
    shares, total = victim.profile.shares, sum(answers)
    groups: list[tuple[int, ...]] = []
    for exit_index, count in enumerate(answers[: victim.num_exits]):
        if not total or count < LEAST_WEIGHT * total:
            continue
        if groups and shares[exit_index] - shares[groups[-1][-1]] < SAME_COST:
            groups[-1] = (*groups[-1], exit_index)
        else:
            groups.append((exit_index,))
    return tuple(groups)


def truth_of(victim: Victim, answers: Sequence[int]) -> dict[str, object]:
    """Tell how a victim is really built, by the attributes of `ArchitectureGuess`.

    Costs and thresholds are those of the exits that answered the attacker, because nothing else
    could be measured; how many exist is told apart from that.

    Args:
        victim: who answered.
        answers: to the attacker, by exit.
    """
    backbone, macs = victim.network.backbone, victim.profile.macs
    visited = visited_exits(victim, answers)
    deepest = macs[visited[-1][-1]] if visited else macs[-1]
    return {
        "family": backbone.family,
        "architecture": backbone.architecture,
        "depth": backbone.depth,
        "width": backbone.width,
        "exits_visited": len(visited) or None,
        "exits": victim.num_exits,
        "exit_costs": tuple(macs[group[-1]] / deepest for group in visited) or None,
        "thresholds": _thresholds(victim, visited),
    }


def _thresholds(victim: Victim, visited: Sequence[Sequence[int]]) -> tuple[float, ...] | None:
    """Return the threshold of every visited group but the deepest, where the rule has any."""
    all_of_them = victim.rule.describe().get("thresholds")
    if not isinstance(all_of_them, Sequence) or len(visited) < 2:
        return None
    return tuple(min(float(all_of_them[e]) for e in group) for group in visited[:-1])


def score_inferences(
    guess: ArchitectureGuess | None,
    deployed_defences: Sequence[DeployedDefence],
    writer: EpisodeWriter,
    *,
    answers: Sequence[int],
) -> None:
    """Write each attribute the attacker spoke of beside the truth; "unknown" is written too.

    A defender with several deployed_defences is judged by its first.

    Args:
        guess: what is believed; nothing is written where the attacker infers nothing.
        deployed_defences: of the defender.
        writer: of the episode.
        answers: the first deployed_defence's to the attacker, by exit.
    """
    if guess is None:
        return
    truth = truth_of(deployed_defences[0].victim, answers)
    for field in fields(guess):
        if field.name == "confidence":
            continue
        inferred, real = getattr(guess, field.name), truth.get(field.name)
        writer.inference(
            InferenceRow(
                attribute=field.name,
                inferred=inferred,
                truth=real,
                correct=None if inferred is None else _matches(field.name, inferred, real),
                confidence=guess.confidence.get(field.name),
            )
        )


def _matches(attribute: str, inferred: object, truth: object) -> bool | None:
    if truth is None:
        return None
    if attribute in ("exit_costs", "thresholds"):
        tolerance = COST_TOLERANCE if attribute == "exit_costs" else THRESHOLD_TOLERANCE
        assert isinstance(inferred, Sequence)
        assert isinstance(truth, Sequence)
        return len(inferred) == len(truth) and all(
            abs(one - other) <= tolerance for one, other in zip(inferred, truth, strict=True)
        )
    return inferred == truth
