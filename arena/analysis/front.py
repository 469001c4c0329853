"""Tells which defenders are on the Pareto front of copying, service and compute, as far as known.

A defender is off the front if another loses no more in all three and less in one. Differences are
taken seed by seed; where their intervals leave that open, the defender is undecided.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from arena.analysis.gaps import BySeed, Gap, gap_of
from arena.analysis.image_sampling import Scored
from arena.analysis.pooled import averaged_over_attackers
from arena.analysis.scoreboard import ScoreRow, best, by_defender, gap_between, scored

FrontState = Literal["on", "off", "undecided"]

LEVEL = 0.05
"""How often, at most, one of all decisions is wrong."""


@dataclass(frozen=True)
class Standing:
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

    @cached_property
    def episodes(self) -> Scored:
        """All its episodes."""
        return scored(self.rows)

    @cached_property
    def served(self) -> BySeed:
        """Served accuracy of each seed, averaged over the attackers."""
        return averaged_over_attackers(self.rows, "served_accuracy")

    @cached_property
    def compute(self) -> BySeed:
        """Share of the compute likewise."""
        return averaged_over_attackers(self.rows, "compute_share")


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
    sides = (other.episodes, one.episodes)
    return gap_of("served_accuracy", sides, (other.served, one.served))


def _compute_gap(one: Standing, other: Standing) -> Gap | None:
    return gap_of("compute_share", (one.episodes, other.episodes), (one.compute, other.compute))


_LOSSES: tuple[Loss, ...] = (_clone_gap, _service_gap, _compute_gap)
