"""Scores what an attacker believes about the victim's construction against the truth."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import cast

from agents.base import ArchitectureGuess
from agents.timing_probe.candidates import SAME_COST
from agents.timing_probe.mixture import LEAST_WEIGHT
from arena.log.player_values import LARGEST, NAME_CHARACTERS, NUMBERS, checked_data
from arena.log.rows import InferenceRow
from arena.log.writer import EpisodeWriter
from envs.errors import PlayerError
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
    guess: ArchitectureGuess | None, writer: EpisodeWriter, *, truth: Mapping[str, object]
) -> None:
    """Write each attribute the attacker spoke of beside the truth; "unknown" is written too.

    Args:
        guess: what is believed; nothing is written where the attacker infers nothing.
        writer: of the episode.
        truth: by attribute, as `truth_of` gives it; what it does not hold is not known.

    Raises:
        PlayerError: the guess holds what its attributes cannot be; nothing is written.
    """
    if guess is None:
        return
    check_guess(guess)
    for field in fields(guess):
        if field.name == "confidence":
            continue
        inferred, real = getattr(guess, field.name), truth.get(field.name)
        sure = guess.confidence.get(field.name)
        writer.inference(
            InferenceRow(
                attribute=field.name,
                inferred=inferred,
                truth=real,
                correct=None if inferred is None else _matches(field.name, inferred, real),
                confidence=None if sure is None else float(sure),
            )
        )


_NUMBERS = ("depth", "width", "exits_visited", "exits")
_SERIES = ("exit_costs", "thresholds")


def check_guess(guess: object) -> None:
    """Check the types of a guess.

    Raises:
        PlayerError: names the attribute, what was expected and what came.
    """
    if not isinstance(guess, ArchitectureGuess):
        raise PlayerError(
            f"inferred: expected an ArchitectureGuess or None, got {type(guess).__name__}"
        )
    names = [field.name for field in fields(guess) if field.name != "confidence"]
    for name in names:
        value = getattr(guess, name)
        if value is not None and not _fits(name, value):
            raise PlayerError(f"inferred.{name}: expected {_expected(name)}, got {_shown(value)}")
        checked_data({name: value}, f"inferred.{name}")
    if not isinstance(guess.confidence, Mapping):
        raise PlayerError(
            f"inferred.confidence: expected a mapping, got {_shown(guess.confidence)}"
        )
    for name, value in guess.confidence.items():
        if name not in names:
            raise PlayerError(
                f"inferred.confidence: no attribute {_shown(name)}; known: {', '.join(names)}"
            )
        # a player writes what it likes, whatever the annotation says
        if not isinstance(cast(object, value), Real) or not 0 <= value <= 1:
            raise PlayerError(
                f"inferred.confidence of {name}: expected a number from 0 to 1, got {_shown(value)}"
            )


def _fits(name: str, value: object) -> bool:
    if name in _NUMBERS:
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        return whole and abs(cast(int, value)) <= LARGEST
    if name in _SERIES:
        return (
            isinstance(value, tuple | list)
            and len(value) <= NUMBERS
            and all(isinstance(one, Real) for one in value)
        )
    return isinstance(value, str) and value.isprintable() and len(value) <= NAME_CHARACTERS


def _expected(name: str) -> str:
    if name in _NUMBERS:
        return "a whole number below 2**63"
    if name in _SERIES:
        return f"a tuple of at most {NUMBERS} numbers"
    return f"a text of at most {NAME_CHARACTERS} printable characters"


def _shown(value: object) -> str:
    small = (
        isinstance(value, int) and abs(value) <= LARGEST
    )  # Python writes no number of any length
    if small or isinstance(value, str | float):
        return ascii(value)[:80]
    return type(value).__name__


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
