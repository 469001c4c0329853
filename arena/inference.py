"""Scores what an attacker believes about the victim's construction against the truth."""

from collections.abc import Sequence
from dataclasses import fields

from agents.base import ArchitectureGuess
from arena.log.rows import InferenceRow
from arena.log.writer import EpisodeWriter
from envs.defences.base import Post
from envs.victim import Victim

COST_TOLERANCE = 0.1
"""An exit's relative cost counts as found within a tenth."""

THRESHOLD_TOLERANCE = 0.01


def truth_of(victim: Victim) -> dict[str, object]:
    """Tell how a victim is really built, by the attributes of `ArchitectureGuess`."""
    backbone, macs = victim.network.backbone, victim.profile.macs
    distinct = sorted(set(macs))
    return {
        "family": backbone.family,
        "architecture": backbone.architecture,
        "depth": backbone.depth,
        "width": backbone.width,
        "exits": victim.num_exits,
        "exit_costs": tuple(cost / distinct[-1] for cost in distinct),
        "thresholds": victim.rule.describe().get("thresholds"),
    }


def score_inferences(
    guess: ArchitectureGuess | None, posts: Sequence[Post], writer: EpisodeWriter
) -> None:
    """Write each attribute the attacker spoke of beside the truth; "unknown" is written too.

    A defender with several posts is judged by its first.
    """
    if guess is None:
        return
    truth = truth_of(posts[0].victim)
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
