"""Ranks players by their best opponent's clone, no more surely than tests of their differences."""

from collections.abc import Sequence
from typing import NamedTuple

from arena.analysis.gaps import Gap
from arena.analysis.paired_tests import holm
from arena.analysis.scoreboard import ScoreRow, gap_between

LEVEL = 0.05
"""How often, at most, a first place is given to one of several that are equal."""


class Rival(NamedTuple):
    """One that came out behind the first.

    Attributes:
        row: its meeting.
        gap: its clone accuracy minus the first's, seed by seed; None without a common seed.
        adjusted_p: of the t test of that gap, corrected by Holm for all rivals.
    """

    row: ScoreRow
    gap: Gap | None
    adjusted_p: float

    @property
    def behind(self) -> bool:
        """Whether a test shows that it lies behind the first."""
        # on unequal seeds the first by its mean may have the better clone on those that both have
        return self.gap is not None and self.gap.difference.mean > 0 and self.adjusted_p <= LEVEL


class Ranking(NamedTuple):
    """Who came out first, and which others may be as good.

    Attributes:
        first: the meeting with the lowest clone accuracy.
        rivals: the others, the nearest first.
    """

    first: ScoreRow
    rivals: tuple[Rival, ...]

    @property
    def undecided(self) -> tuple[Rival, ...]:
        """Those that no test tells from the first."""
        return tuple(rival for rival in self.rivals if not rival.behind)


def ranked(rows: Sequence[ScoreRow]) -> Ranking:
    """Rank meetings by their clone accuracy, the lowest first, and test the first against all.

    The first was chosen for its rank, so that its lead over each rival is corrected for their
    number. Where all are equal one is told from every other with a probability of at most `LEVEL`.

    Args:
        rows: at least one, each with a clone accuracy.

    Source:
        Gutmann and Maymin 1987, "Is the selected population the best?", Annals of Statistics 15;
        Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    first, *others = sorted(rows, key=lambda row: row.scores["clone_accuracy"].mean)
    gaps = [gap_between(row, first) for row in others]
    adjusted = holm([1.0 if gap is None else gap.p for gap in gaps])
    return Ranking(first, tuple(map(Rival, others, gaps, adjusted)))
