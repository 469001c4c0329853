"""What came of playing a scenario."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from arena.log.rows import EpisodeRow


class Best(NamedTuple):
    """The best point that a search found.

    Attributes:
        values: of the swept keys (`Any`: as TOML gives them).
        measure, value: what was searched for, and what this point came to.
        points: how many were played to their end.
        below: how many of them were below what the search asks at least.
    """

    values: Mapping[str, Any]
    measure: str
    value: float
    points: int
    below: int


@dataclass(frozen=True)
class MatchResult:
    """What came of a scenario.

    Attributes:
        episodes: rows of the log, in the scenario's order, skipped ones included.
        skipped: how many the log already had.
        interrupted: whether the user broke off; what was measured is in the log.
        total: how many episodes the scenario has.
        best: of a search; None where no point was played to its end and has what is asked at least.
    """

    episodes: list[EpisodeRow] = field(default_factory=list)
    skipped: int = 0
    interrupted: bool = False
    total: int = 0
    best: Best | None = None

    @property
    def left(self) -> int:
        """How many episodes the same command would still play."""
        return self.total - sum(row.status == "success" for row in self.episodes)

    @property
    def failed(self) -> bool:
        """Whether an episode ended other than by success."""
        return self.interrupted or any(row.status != "success" for row in self.episodes)
