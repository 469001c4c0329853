"""Compares defences at equal served accuracy, along the knob that each was swept over.

A defence has a curve and no single score: a stronger setting protects better and serves worse. Two
defences are compared where they serve benign users equally well, by straight lines between the
settings that were played, and nowhere else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import NamedTuple

from arena.analysis.image_sampling import share_variance
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.sweeps import BySeed, Setting, Sweep, mean_over

TOLERANCE = 0.005
"""Served accuracies count as equal within half a point."""


class Reading(NamedTuple):
    """A sweep read at one served accuracy.

    Attributes:
        served: the served accuracy reached there.
        clone: by seed, the best clone's accuracy.
        at: between which settings it lies, for people.
        images: test images behind the accuracies; None if unknown.
    """

    served: float
    clone: BySeed
    at: str
    images: int | None

    @property
    def mean(self) -> float:
        """The clone's accuracy, averaged over seeds."""
        return fmean(self.clone.values())


@dataclass(frozen=True, slots=True)
class Level:
    """Two sweeps at equal service.

    Attributes:
        first, second: each read there.
        difference: clone accuracy, first minus second, seed by seed.
    """

    first: Reading
    second: Reading
    difference: Interval


@dataclass(frozen=True, slots=True)
class EqualService:
    """Two defences wherever both serve benign users equally well.

    Attributes:
        first, second: names of the sweeps.
        seeds: those that every setting of both was played on.
        levels: by falling served accuracy; empty where the two cannot be compared.
        reason: why there is no level; "" where there is one.
        notes: attackers that met one of the two alone, so that its worst case is another one's.
    """

    first: str
    second: str
    seeds: tuple[int, ...]
    levels: tuple[Level, ...]
    reason: str
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Give plain values."""
        levels = [
            {
                "served": [level.first.served, level.second.served],
                "clone": [level.first.mean, level.second.mean],
                "at": [level.first.at, level.second.at],
                "difference": level.difference.mean,
                "t_interval": [level.difference.low, level.difference.high],
            }
            for level in self.levels
        ]
        return {
            "first": self.first,
            "second": self.second,
            "seeds": list(self.seeds),
            "comparable": bool(levels),
            "levels": levels,
            "reason": self.reason,
            "notes": list(self.notes),
        }


def at_equal_service(first: Sweep, second: Sweep, *, tolerance: float = TOLERANCE) -> EqualService:
    """Compare two defences at every served accuracy that was measured of one and both reach.

    Args:
        first: a sweep.
        second: another one of the same scenario.
        tolerance: how far apart two served accuracies may be.
    """
    seeds = _common_seeds(first, second)
    levels: list[Level] = []
    reason = "they share no seed"
    if seeds:
        served = [mean_over(one.served, seeds) for s in (first, second) for one in s.settings]
        for target in sorted(set(served), reverse=True):
            readings = [read_at(sweep, target, seeds, tolerance) for sweep in (first, second)]
            level = _level(*readings, tolerance=tolerance)
            if level is not None and _places(level) not in map(_places, levels):
                levels.append(level)
        reach = [_reach(sweep, seeds) for sweep in (first, second)]
        reason = f"{first.name} serves {reach[0]}, {second.name} {reach[1]}"
    return EqualService(
        first.name,
        second.name,
        seeds,
        tuple(levels),
        "" if levels else f"not comparable: {reason}",
        tuple(_unequal_attackers(first, second)),
    )


def read_at(
    sweep: Sweep, served: float, seeds: Sequence[int], tolerance: float = TOLERANCE
) -> Reading | None:
    """Read a sweep where it serves so well; None where it never does.

    Between two neighbouring settings all figures lie on straight lines. Where several settings
    serve so well the one with the worst clone counts, which is the defender's choice. Beyond its
    ends a sweep is read at the nearest setting, if that is within the tolerance.

    Args:
        sweep: the defence.
        served: accuracy, averaged over the seeds.
        seeds: those that every setting was played on.
        tolerance: how far beyond its ends a sweep is read.
    """
    found = list(_crossings(sweep, served, seeds))
    if not found:
        nearest = min(sweep.settings, key=lambda one: abs(mean_over(one.served, seeds) - served))
        # rounding must not part what is just within
        if abs(mean_over(nearest.served, seeds) - served) > tolerance + 1e-12:
            return None
        found = [_between(nearest, nearest, 0.0, seeds)]
    return min(found, key=lambda reading: reading.mean)


def _common_seeds(first: Sweep, second: Sweep) -> tuple[int, ...]:
    both = (*first.settings, *second.settings)
    return tuple(sorted(set.intersection(*(set(one.clone) & set(one.served) for one in both))))


def _crossings(sweep: Sweep, served: float, seeds: Sequence[int]) -> Iterator[Reading]:
    for left, right in pairwise(sweep.settings):
        low, high = (mean_over(one.served, seeds) for one in (left, right))
        if low == high == served:
            yield _between(left, left, 0.0, seeds)
            yield _between(right, right, 0.0, seeds)
        elif min(low, high) <= served <= max(low, high):
            yield _between(left, right, (served - low) / (high - low), seeds)


def _between(left: Setting, right: Setting, share: float, seeds: Sequence[int]) -> Reading:
    """Read the straight line between two settings, `share` of the way along."""
    clone = {s: (1 - share) * left.clone[s] + share * right.clone[s] for s in seeds}
    ends = [mean_over(one.served, seeds) for one in (left, right)]
    names = {0.0: left.defender, 1.0: right.defender}
    at = names.get(share, f"{left.defender} to {right.defender}")
    return Reading((1 - share) * ends[0] + share * ends[1], clone, at, left.images)


def _level(first: Reading | None, second: Reading | None, *, tolerance: float) -> Level | None:
    if first is None or second is None or abs(first.served - second.served) > tolerance + 1e-12:
        return None
    pairs = [first.clone[seed] - second.clone[seed] for seed in first.clone]
    variance = sum(share_variance(one.mean, one.images) for one in (first, second))
    return Level(first, second, mean_interval(pairs).widened(variance))


def _places(level: Level) -> tuple[str, float, str, float]:
    first, second = level.first, level.second
    return first.at, round(first.served, 9), second.at, round(second.served, 9)


def _reach(sweep: Sweep, seeds: Sequence[int]) -> str:
    served = [100 * mean_over(one.served, seeds) for one in sweep.settings]
    low, high = min(served), max(served)
    return f"{low:.1f} %" if high - low < 0.05 else f"{low:.1f} to {high:.1f} %"


def _unequal_attackers(first: Sweep, second: Sweep) -> Iterator[str]:
    for sweep, other in ((first, second), (second, first)):
        if missing := sorted(_attackers(other) - _attackers(sweep)):
            yield f"{sweep.name} was not attacked by {', '.join(missing)}"
        for one in sweep.settings:
            if absent := sorted(_attackers(sweep) - set(one.attackers)):
                yield f"{one.defender} was not attacked by {', '.join(absent)}"


def _attackers(sweep: Sweep) -> set[str]:
    return {attacker for one in sweep.settings for attacker in one.attackers}
