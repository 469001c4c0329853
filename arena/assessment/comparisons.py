"""Compares the clones of an assessment: changed attacks with plain ones, all with the control."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from arena.analysis.gaps import Gap, gap_of
from arena.analysis.pooled import scored_best
from arena.analysis.scoreboard import ScoreRow, gap_between
from arena.assessment.sequence import Attack, Role
from arena.log.rows import CheckpointRow, EventRow
from arena.report.formatting import counted

CLONE = "clone_accuracy"

MATERIAL = 0.02
"""A smaller difference of clone accuracies counts for nothing."""

LEVEL = 0.05
"""How often, at most, comparisons of a defender show a difference where there is none."""

Met = Collection[tuple[str, int]]
"""Names of attacks, and seeds."""

Asked = Literal[
    "argmax beats soft", "countermeasure beats plain", "control matches attack",
    "pool beats data-free",
]  # fmt: skip
"""The flag that a comparison is made for."""


@dataclass(frozen=True)
class Played:
    """What flags are read from: one defender at one budget, beside the control.

    Attributes:
        attacks: the sequence that was played.
        rows: of the defender, by the attack's name.
        control: of the undefended victim, likewise.
        checkpoints, events: of the episodes, by id.
    """

    attacks: Sequence[Attack]
    rows: Mapping[str, ScoreRow]
    control: Mapping[str, ScoreRow]
    checkpoints: Mapping[str, Sequence[CheckpointRow]]
    events: Mapping[str, Sequence[EventRow]]


class Comparison(NamedTuple):
    """Whether one clone is better than another.

    Attributes:
        flag: that it is made for.
        says: of what it is the difference.
        gap: seed by seed.
    """

    flag: Asked
    says: str
    gap: Gap

    @property
    def lead(self) -> float:
        """The mean difference."""
        return self.gap.difference.mean

    def shown(self, adjusted_p: float) -> bool:
        """Whether the first is better, by enough to matter, and not by chance."""
        return adjusted_p <= LEVEL and self.lead >= MATERIAL

    @property
    def points(self) -> str:
        """The difference in words."""
        found = self.gap.difference
        reach = "" if found.low is None or found.high is None else (
            f" ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
        )  # fmt: skip
        seeds = counted(len(self.gap.seeds), "seed")
        return f"{self.says}: {100 * found.mean:+.1f} points{reach}, {seeds}"


def comparisons_of(played: Played) -> list[Comparison]:
    """Make all comparisons of one defender."""
    return [*_against_plain(played), *_against_noise(played), *_by_source(played)]


def _against_plain(played: Played) -> list[Comparison]:
    """Compare each attack with the plain one that it changes."""
    tests = []
    for attack in played.attacks:
        changed, plain = (played.rows.get(name) for name in (attack.name, attack.plain))
        if changed and plain and (gap := gap_between(changed, plain)) is not None:
            argmax = attack.name == f"{attack.plain}-argmax"
            flag: Asked = "argmax beats soft" if argmax else "countermeasure beats plain"
            tests.append(Comparison(flag, f"{attack.name} less {attack.plain}", gap))
    return tests


def _against_noise(played: Played) -> list[Comparison]:
    floors = [played.rows[one.name] for one in played.attacks
              if one.role == "control" and one.name in played.rows]  # fmt: skip
    return [
        Comparison("control matches attack", f"{row.attack} less {floor.attack}", gap)
        for floor in floors
        for row in copies_of(played.attacks, played.rows)
        if (gap := gap_between(row, floor)) is not None
    ]


def _by_source(played: Played) -> list[Comparison]:
    """Compare what owned images gain over made ones here and where nothing is defended.

    Attacks and seeds that met one side alone are left out: a restorer knows one defence.
    """
    met = {
        (name, seed)
        for name, row in played.rows.items()
        if name in played.control
        for seed in row.by_seed(CLONE).keys() & played.control[name].by_seed(CLONE).keys()
    }
    here, there = (_lead_of_pools(played, rows, met) for rows in (played.rows, played.control))
    if here is None or there is None:
        return []
    ours, theirs = (dict(zip(one.seeds, one.differences, strict=True)) for one in (here, there))
    seeds = tuple(seed for seed in ours if seed in theirs)
    if not seeds:
        return []
    gap = Gap(
        seeds, tuple(ours[one] - theirs[one] for one in seeds), here.variance + there.variance
    )
    return [Comparison("pool beats data-free", "lead of the pool beyond that undefended", gap)]


def _lead_of_pools(played: Played, rows: Mapping[str, ScoreRow], met: Met) -> Gap | None:
    """Subtract the best data-free attack of each seed from the best one by a pool."""
    sides = [copies_of(played.attacks, rows, role) for role in ("pool", "data-free")]
    if not all(sides):
        return None
    pooled, free = (best_by_seed(side, met) for side in sides)
    of_both = {(row.attack, seed) for row in rows.values() for seed in row.episodes
               if (row.attacker, seed) in met}  # fmt: skip
    behind = (scored_best(sides[0], met=of_both), scored_best(sides[1], met=of_both))
    return gap_of(CLONE, behind, (pooled, free))


def copies_of(
    attacks: Sequence[Attack], rows: Mapping[str, ScoreRow], *roles: Role
) -> list[ScoreRow]:
    """Return the measured rows of the attacks that extract, of some roles or all."""
    names = [one.name for one in attacks if one.extracts and (not roles or one.role in roles)]
    return [rows[name] for name in names if name in rows and CLONE in rows[name].scores]


def best_by_seed(rows: Sequence[ScoreRow], met: Met | None = None) -> dict[int, float]:
    """Return the accuracy of the best clone of each seed, of the attacks and seeds that count."""
    best: dict[int, float] = {}
    for row in rows:
        for seed, value in row.by_seed(CLONE).items():
            if met is None or (row.attacker, seed) in met:
                best[seed] = max(best.get(seed, value), value)
    return best
