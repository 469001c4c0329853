"""Puts episodes into rows of attacker against defender, with intervals over their seeds.

A row holds successful plays of one scenario whose settings differ in the seed alone; a seed that
was played twice counts once, with its newest play.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np

from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.metrics import MEASURES
from arena.analysis.paired_tests import EffectSize, PairedTest, effect_size, paired_permutation_test
from arena.log.rows import EpisodeRow
from arena.scenario.settings import flat, settings_of


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One attacker against one defender, over the seeds they met on.

    Attributes:
        scenario, attacker, defender: who met where.
        variant: the settings that tell this row from others of the same names; "" if none does.
        episodes: the newest successful play of each seed, by seed.
        scores: mean and interval of each measure, by its name; absent where never measured.
    """

    scenario: str
    attacker: str
    defender: str
    variant: str
    episodes: Mapping[int, EpisodeRow]
    scores: Mapping[str, Interval] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, ascending."""
        return tuple(sorted(self.episodes))

    @property
    def n(self) -> int:
        """How many seeds."""
        return len(self.episodes)

    @property
    def title(self) -> str:
        """Attacker, defender and what tells them apart, in one line."""
        return f"{self.attacker} / {self.versus}"

    @property
    def versus(self) -> str:
        """The defender, with the settings that tell this row from others of the same names."""
        return self.defender + (f" ({self.variant})" if self.variant else "")

    def by_seed(self, measure: str) -> dict[int, float]:
        """Give a measure of each seed it was taken on."""
        read = MEASURES[measure].read
        found = ((seed, read(self.episodes[seed])) for seed in self.seeds)
        return {seed: value for seed, value in found if value is not None}

    def as_dict(self) -> dict[str, object]:
        """Give plain values: names, seeds, and {mean, low, high, n} of each measure."""
        scores = {
            name: {"mean": score.mean, "low": score.low, "high": score.high, "n": score.n}
            for name, score in self.scores.items()
        }
        names = {"scenario": self.scenario, "attacker": self.attacker, "defender": self.defender}
        return {**names, "variant": self.variant, "n": self.n, "seeds": list(self.seeds), **scores}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two rows differ in a measure, on the seeds they share.

    Attributes:
        seeds: shared, ascending.
        difference: of first minus second, with its t interval.
        test, effect: of the same pairs.
    """

    seeds: tuple[int, ...]
    difference: Interval
    test: PairedTest
    effect: EffectSize


def scoreboard(
    episodes: Iterable[EpisodeRow], *, confidence: float = 0.95, as_given: bool = False
) -> list[ScoreRow]:
    """Average episodes over their seeds, one row for each meeting.

    The rows are in the order of play, or of the episodes `as_given`: workers that begin at once
    begin in no order.

    Only successful plays count: a cancelled one was measured at another budget, and a what-if
    never happened. Of a seed played twice the later play counts. The rows must have their plans:
    a brief listing cannot tell meetings of other settings apart.
    """
    groups: dict[tuple[str, str, str, str], dict[int, EpisodeRow]] = defaultdict(dict)
    played = [row for row in episodes if row.status == "success" and row.kind == "play"]
    for row in played if as_given else sorted(played, key=_began):
        seeds = groups[row.scenario_name, row.attacker, row.defender, _settings(row)]
        seeds[row.seed] = max(seeds.get(row.seed, row), row, key=_began)
    variants = _variants(groups)
    return [
        ScoreRow(*key[:3], variants[key], by_seed, _scores(by_seed.values(), confidence))
        for key, by_seed in groups.items()
    ]


def _began(row: EpisodeRow) -> tuple[datetime, str]:
    return row.started, row.id


def compare(
    first: ScoreRow, second: ScoreRow, measure: str = "clone_accuracy"
) -> Comparison | None:
    """Compare two rows seed by seed; None where they share no seed with that measure."""
    one, other = first.by_seed(measure), second.by_seed(measure)
    seeds = tuple(sorted(set(one) & set(other)))
    if not seeds:
        return None
    ours, theirs = [one[seed] for seed in seeds], [other[seed] for seed in seeds]
    # a comparison has to come out alike whenever it is asked for
    generator = np.random.default_rng(0)
    return Comparison(
        seeds,
        mean_interval([a - b for a, b in zip(ours, theirs, strict=True)]),
        paired_permutation_test(ours, theirs, generator=generator),
        effect_size(ours, theirs),
    )


def _scores(episodes: Iterable[EpisodeRow], confidence: float) -> dict[str, Interval]:
    rows = list(episodes)
    scores = {}
    for name, measure in MEASURES.items():
        values = [value for row in rows if (value := measure.read(row)) is not None]
        if values:
            scores[name] = mean_interval(values, confidence).within(*measure.bounds)
    return scores


def _settings(episode: EpisodeRow) -> str:
    """Write down everything that bears on the result, but the seed and what follows from it."""
    meeting = {
        "victim": episode.victim,
        "clone": episode.clone,
        "data": episode.data,
        "threat": {"budget": episode.budget},
        "attacker": {"params": episode.attacker_params},
        "defender": {"params": episode.defender_params},
    }
    return json.dumps({**meeting, **settings_of(episode.plan)}, sort_keys=True, default=str)


def _variants(keys: Iterable[tuple[str, str, str, str]]) -> dict[tuple[str, str, str, str], str]:
    """Say, for meetings of the same names, which settings tell them apart."""
    named: dict[tuple[str, ...], list[tuple[str, str, str, str]]] = defaultdict(list)
    for key in keys:
        named[key[:3]].append(key)
    variants = {}
    for same in named.values():
        each = [flat(json.loads(key[3])) for key in same]
        differing = sorted(
            path
            for path in set().union(*each)
            if len({json.dumps(one.get(path), default=str) for one in each}) > 1
        )
        for key, settings in zip(same, each, strict=True):
            variants[key] = ", ".join(f"{path}={settings.get(path)}" for path in differing)
    return variants


def best(rows: Sequence[ScoreRow], measure: str = "clone_accuracy") -> list[ScoreRow]:
    """Sort the rows that have a measure by its mean, the highest first."""
    having = [row for row in rows if measure in row.scores]
    return sorted(having, key=lambda row: -row.scores[measure].mean)


def by_defender(board: Iterable[ScoreRow]) -> dict[str, list[ScoreRow]]:
    """Sort the rows by defender (and what tells it from others of its name), in their order."""
    defenders: dict[str, list[ScoreRow]] = {}
    for row in board:
        defenders.setdefault(row.versus, []).append(row)
    return defenders


def over_attackers(rows: Iterable[ScoreRow], measure: str) -> Interval | None:
    """Average a measure over the attackers of each seed, then over seeds; None if never taken."""
    means = list(averaged_over_attackers(rows, measure).values())
    return mean_interval(means).within(*MEASURES[measure].bounds) if means else None


def averaged_over_attackers(rows: Iterable[ScoreRow], measure: str) -> dict[int, float]:
    """Average a measure over the attackers of each seed."""
    seeds: dict[int, list[float]] = {}
    for row in rows:
        for seed, value in row.by_seed(measure).items():
            seeds.setdefault(seed, []).append(value)
    return {seed: sum(values) / len(values) for seed, values in seeds.items()}
