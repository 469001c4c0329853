"""Scores what attackers said about the victim, over seeds: right, wrong, unknown, and how sure.

What an attacker does not know counts as not right: it stands in the denominator.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from arena.analysis.intervals import Interval, share_interval
from arena.analysis.scoreboard import ScoreRow
from arena.log.rows import InferenceRow

BINS = 5
"""Ranges of confidence that a calibration tells apart, of equal width."""

Inferences = Mapping[str, Sequence[InferenceRow]]
"""Those of each episode, by its id."""


class Verdicts(NamedTuple):
    """What was said about one attribute, in so many episodes.

    Attributes:
        right, wrong, unknown: episodes.
    """

    right: int
    wrong: int
    unknown: int

    @property
    def judged(self) -> int:
        """Episodes in which something was to be found out."""
        return self.right + self.wrong + self.unknown

    @property
    def share(self) -> Interval:
        """The share that was right, with its Wilson interval."""
        return share_interval(self.right, self.judged)


def verdicts_on(said: Iterable[InferenceRow]) -> Verdicts | None:
    """Count what was said of one attribute; None where the truth is never known."""
    counts = [0, 0, 0]
    for one in said:
        if one.correct is not None:
            counts[0 if one.correct else 1] += 1
        elif one.inferred is None and one.truth is not None:
            counts[2] += 1
    return Verdicts(*counts) if sum(counts) else None


class Inferred(NamedTuple):
    """What one attacker found out.

    Attributes:
        attacker: its name.
        verdicts: by defender and attribute, in the order of play and of what was said.
        calibration: how often it was right at which confidence.
    """

    attacker: str
    verdicts: Mapping[str, Mapping[str, Verdicts]]
    calibration: "Calibration | None"


class Bin(NamedTuple):
    """What was said with a confidence in one range.

    Attributes:
        confidence: mean of it.
        right: share that was right, with its Wilson interval.
    """

    confidence: float
    right: Interval


class Calibration(NamedTuple):
    """How an attacker's confidence fits how often it is right.

    Attributes:
        bins: ranges of confidence with something in them, ascending.
        error: expected calibration error: distances of the bins, weighted by what is in them.
        brier: mean squared distance of confidence and truth, 0 to 1; 0.25 for "one half" always.
        n: statements with a confidence that were judged.

    Source:
        Brier 1950, "Verification of forecasts expressed in terms of probability"; Naeini et al.
        2015, "Obtaining well calibrated probabilities using Bayesian binning".
    """

    bins: tuple[Bin, ...]
    error: float
    brier: float
    n: int


def calibration_of(said: Iterable[InferenceRow]) -> Calibration | None:
    """Hold confidences against the truth; None where nothing was said with one."""
    pairs = [
        (one.confidence, bool(one.correct))
        for one in said
        if one.confidence is not None and one.correct is not None
    ]
    if not pairs:
        return None
    sure, right = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    bins = [
        Bin(float(sure[place == one].mean()),
            share_interval(int(right[place == one].sum()), int((place == one).sum())))
        for one in sorted(set(place.tolist()))
    ]  # fmt: skip
    gaps = (abs(one.confidence - one.right.mean) * one.right.n for one in bins)
    return Calibration(
        tuple(bins), sum(gaps) / len(pairs), float(((sure - right) ** 2).mean()), len(pairs)
    )


def inferred_by(board: Iterable[ScoreRow], inferences: Inferences) -> list[Inferred]:
    """Sum up what each attacker said, those that said something of a known truth."""
    said: dict[str, dict[str, dict[str, list[InferenceRow]]]] = {}
    for row in board:
        for seed in row.seeds:
            for one in inferences.get(row.episodes[seed].id, ()):
                by_attribute = said.setdefault(row.attack, {}).setdefault(row.versus, {})
                by_attribute.setdefault(one.attribute, []).append(one)
    found = []
    for attacker, defenders in said.items():
        counted = {
            defender: {name: counts for name, rows in attributes.items()
                       if (counts := verdicts_on(rows))}
            for defender, attributes in defenders.items()
        }  # fmt: skip
        known = {defender: verdicts for defender, verdicts in counted.items() if verdicts}
        if known:
            every = [row for each in defenders.values() for rows in each.values() for row in rows]
            found.append(Inferred(attacker, known, calibration_of(every)))
    return found
