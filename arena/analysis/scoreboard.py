"""Puts episodes into rows of attacker against defender, with intervals over their seeds.

A row holds successful plays of one game whose settings differ in the seed alone; a seed that
was played twice counts once, with its newest play.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import numpy as np

from arena.analysis.games import Game, Parts, Played, games_of, told_apart
from arena.analysis.gaps import Gap, gap_of
from arena.analysis.image_sampling import (
    Scored,
    data_of,
    images_by_data,
    sampling_variance,
    share_variance,
)
from arena.analysis.intervals import Interval, mean_interval, normal_reach
from arena.analysis.metrics import chance_level, measure_of, measures_of
from arena.analysis.paired_tests import (
    EffectSize,
    PairedTest,
    effect_size,
    paired_permutation_test,
)
from arena.log.rows import EpisodeRow


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One attacker against one defender, over the seeds they met on.

    Attributes:
        game: the scenario, and the settings that tell it from others of the scenario.
        attacker, defender: who met.
        attacker_variant, defender_variant: the parameters that tell the player from others of the
            same name; "" if there are none.
        episodes: the newest successful play of each seed, by seed.
        scores: mean and interval of each measure, by its name; absent where never measured. That
            of an accuracy holds the sampling of the test images.
        images: test images behind the accuracies; None if unknown.
    """

    game: Game
    attacker: str
    defender: str
    attacker_variant: str
    defender_variant: str
    episodes: Mapping[int, EpisodeRow]
    scores: Mapping[str, Interval] = field(default_factory=dict)
    images: int | None = None
    _read: dict[str, Mapping[int, float]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

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
        return f"{self.attack} / {self.versus}"

    @property
    def scenario(self) -> str:
        """Name of the scenario."""
        return self.game.scenario

    @property
    def attack(self) -> str:
        """The attacker, with the parameters that tell it from others of its name."""
        return self.attacker + (f" ({self.attacker_variant})" if self.attacker_variant else "")

    @property
    def versus(self) -> str:
        """The defender, with the parameters that tell it from others of its name."""
        return self.defender + (f" ({self.defender_variant})" if self.defender_variant else "")

    @property
    def at_chance(self) -> float | None:
        """The accuracy of a guess, if that of the clone may be no more; None if it is more.

        Without an interval over seeds that of the test images decides.
        """
        score = self.scores.get("clone_accuracy")
        chance = chance_level(next(iter(self.episodes.values())))
        if score is None or chance is None:
            return None
        low = score.low
        if low is None:
            low = score.mean - normal_reach(share_variance(score.mean, self.images), 0.95)
        return chance if low <= chance else None

    def scored_on(self, seeds: Iterable[int]) -> Scored:
        """Give the episodes of some seeds, and how many images they were scored on."""
        return Scored([self.episodes[seed] for seed in seeds], self.images)

    def by_seed(self, measure: str) -> Mapping[int, float]:
        """Give a measure of each seed it was taken on; it is read once, however often asked for."""
        if measure not in self._read:
            read = measure_of(measure).read
            found = ((seed, read(self.episodes[seed])) for seed in self.seeds)
            self._read[measure] = {seed: value for seed, value in found if value is not None}
        return self._read[measure]

    def as_dict(self) -> dict[str, object]:
        """Give plain values: names, seeds, and {mean, low, high, n} of each measure."""
        scores = {
            name: {"mean": score.mean, "low": score.low, "high": score.high, "n": score.n}
            for name, score in self.scores.items()
        }
        names = {
            "scenario": self.scenario,
            "setting": self.game.setting,
            "attacker": self.attacker,
            "attacker_variant": self.attacker_variant,
            "defender": self.defender,
            "defender_variant": self.defender_variant,
        }
        return {**names, "n": self.n, "seeds": list(self.seeds), **scores}


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two rows differ in a measure, on the seeds they share.

    Attributes:
        gap: how far they lie apart.
        test, effect: of the same pairs.
    """

    gap: Gap
    test: PairedTest
    effect: EffectSize

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that both were played on, ascending."""
        return self.gap.seeds

    @property
    def difference(self) -> Interval:
        """Of first minus second, with its t interval."""
        return self.gap.difference


def scoreboard(
    episodes: Iterable[EpisodeRow],
    *,
    confidence: float = 0.95,
    as_given: bool = False,
    games: Mapping[str, Played] | None = None,
) -> list[ScoreRow]:
    """Average episodes over their seeds, one row for each meeting.

    The rows are in the order of play, or of the episodes `as_given`: workers that begin at once
    begin in no order.

    Only successful plays count: a cancelled one was measured at another budget, and a what-if
    never happened. Of a seed played twice the later play counts. The rows must have their plans:
    a brief listing cannot tell meetings of other settings apart. `games` are what `games_of` gives
    of all of them, where that is known.
    """
    rows = list(episodes)
    if games is None:
        games = games_of(rows)  # of those that failed too: they tell games apart
    groups: dict[Meeting, dict[int, EpisodeRow]] = defaultdict(dict)
    played = [row for row in rows if row.status == "success" and row.kind == "play"]
    for row in played if as_given else sorted(played, key=_began):
        game, parts = games[row.id]
        meeting = Meeting(game, row.attacker, row.defender, parts)
        groups[meeting][row.seed] = max(groups[meeting].get(row.seed, row), row, key=_began)
    variants, images = _variants(groups), images_by_data(played)
    return [
        row_of(
            meeting[:3], by_seed, variants=variants[meeting], images=images, confidence=confidence
        )
        for meeting, by_seed in groups.items()
    ]


class Meeting(NamedTuple):
    """What episodes of one row have in common."""

    game: Game
    attacker: str
    defender: str
    parts: Parts


def row_of(
    names: tuple[Game, str, str],
    by_seed: Mapping[int, EpisodeRow],
    *,
    images: Mapping[str, int | None],
    variants: tuple[str, str] = ("", ""),
    confidence: float = 0.95,
) -> ScoreRow:
    """Average episodes that differ in the seed alone.

    Args:
        names: game, attacker and defender.
        by_seed: the episodes; at least one.
        images: test images of each data set; see `arena.analysis.image_sampling`.
        variants: what tells the attacker, and the defender, from others of its name.
        confidence: of the intervals.
    """
    side = Scored(by_seed.values(), images[data_of(next(iter(by_seed.values())))])
    return ScoreRow(*names, *variants, by_seed, _scores(side, confidence), side.images)


def _began(row: EpisodeRow) -> tuple[datetime, str]:
    return row.started, row.id


def gap_between(first: ScoreRow, second: ScoreRow, measure: str = "clone_accuracy") -> Gap | None:
    """Subtract two rows seed by seed; None where they share no seed with that measure."""
    values = [row.by_seed(measure) for row in (first, second)]
    return gap_of(measure, (scored([first]), scored([second])), values)


def compare(
    first: ScoreRow, second: ScoreRow, measure: str = "clone_accuracy"
) -> Comparison | None:
    """Compare two rows seed by seed; None where they share no seed with that measure."""
    gap = gap_between(first, second, measure)
    if gap is None:
        return None
    values = (row.by_seed(measure) for row in (first, second))
    ours, theirs = ([of_seed[seed] for seed in gap.seeds] for of_seed in values)
    # a comparison has to come out alike whenever it is asked for
    generator = np.random.default_rng(0)
    return Comparison(
        gap,
        paired_permutation_test(ours, theirs, generator=generator),
        effect_size(ours, theirs),
    )


def _scores(side: Scored, confidence: float) -> dict[str, Interval]:
    scores = {}
    for name, measure in measures_of(side.episodes).items():
        values = [value for row in side.episodes if (value := measure.read(row)) is not None]
        if values:
            found = mean_interval(values, confidence).widened(sampling_variance(name, side))
            scores[name] = found.within(*measure.bounds)
    return scores


def _variants(meetings: Iterable[Meeting]) -> dict[Meeting, tuple[str, str]]:
    """Say which parameters tell players of one name in one game apart: attackers', defenders'."""
    attackers, defenders = defaultdict(set), defaultdict(set)
    names: dict[tuple[Game, str, str], set[tuple[str, ...]]] = defaultdict(set)
    meetings = list(meetings)
    for one in meetings:
        attackers[one.game, one.attacker].add((one.parts.attacker,))
        defenders[one.game, one.defender].add((one.parts.defender,))
        names[one[:3]].add((one.parts.named,))
    found = {}
    for one in meetings:
        attacker = told_apart(attackers[one.game, one.attacker])[one.parts.attacker,]
        defender = told_apart(defenders[one.game, one.defender])[one.parts.defender,]
        named = told_apart(names[one[:3]])[one.parts.named,]
        found[one] = attacker, ", ".join(filter(None, (defender, named)))
    return found


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


def scored(rows: Sequence[ScoreRow]) -> Scored:
    """Give all episodes of some meetings on the same images."""
    return Scored([one for row in rows for one in row.episodes.values()], rows[0].images)
