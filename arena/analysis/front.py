"""Tells which defenders are on the Pareto front of copying, service and compute, as far as known.

A defender is off the front if another loses no more in all three and less in one. Differences are
taken seed by seed; where their intervals leave that open, the defender is undecided.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from arena.analysis.gaps import Gap, gap_of
from arena.analysis.scoreboard import (
    ScoreRow,
    averaged_over_attackers,
    best,
    by_defender,
    gap_between,
    scored,
)

FrontState = Literal["on", "off", "undecided"]

LEVEL = 0.05
"""How often, at most, one of all decisions is wrong."""


class Standing(NamedTuple):
    """A defender against the attacker that copied it best, and what all attackers met.

    Attributes:
        worst: the meeting with the best clone.
        rows: all its meetings.
    """

    worst: ScoreRow
    rows: tuple[ScoreRow, ...]

    @property
    def defender(self) -> str:
        """Its name, with what tells it from others of the same name."""
        return self.worst.versus


Loss = Callable[[Standing, Standing], Gap | None]


def standings(board: Sequence[ScoreRow]) -> list[Standing]:
    """Place each defender by the attack that copied it best; those never copied are left out."""
    meetings = by_defender(board).values()
    return [Standing(ranked[0], tuple(rows)) for rows in meetings if (ranked := best(rows))]


def front(standings: Sequence[Standing]) -> list[FrontState]:
    """Tell of each defender whether it is on the front.

    What one of two defenders has no measurement of does not count between them. The intervals are
    corrected by Bonferroni for the number of differences.
    """
    pairs = len(standings) * (len(standings) - 1) // 2
    confidence = 1 - LEVEL / max(1, pairs * len(_LOSSES))
    states: list[FrontState] = []
    for one in standings:
        beaten = [_beats(other, one, confidence) for other in standings if other is not one]
        if True in beaten:
            states.append("off")
        else:
            states.append("undecided" if None in beaten else "on")
    return states


def _beats(one: Standing, other: Standing, confidence: float) -> bool | None:
    """Tell whether the first loses no more in all and less in one; None where that is open."""
    found = (loss(one, other) for loss in _LOSSES)
    gaps = [gap.interval(confidence) for gap in found if gap is not None]
    ends = [(gap.low, gap.high) for gap in gaps if gap.low is not None and gap.high is not None]
    if any(low > 0 for low, _ in ends):
        return False
    if len(ends) < len(gaps):  # one seed has no interval
        return None
    if all(low >= 0 for low, _ in ends):
        return False
    return (
        True if all(high <= 0 for _, high in ends) and any(high < 0 for _, high in ends) else None
    )


def _clone_gap(one: Standing, other: Standing) -> Gap | None:
    return gap_between(one.worst, other.worst)


def _service_gap(one: Standing, other: Standing) -> Gap | None:
    # other minus one: what is served is wanted, so that less of it is lost
    return _averaged_gap("served_accuracy", other, one)


def _compute_gap(one: Standing, other: Standing) -> Gap | None:
    return _averaged_gap("compute_share", one, other)


_LOSSES: tuple[Loss, ...] = (_clone_gap, _service_gap, _compute_gap)


def _averaged_gap(measure: str, first: Standing, second: Standing) -> Gap | None:
    values = [averaged_over_attackers(place.rows, measure) for place in (first, second)]
    return gap_of(measure, (scored(first.rows), scored(second.rows)), values)
