"""Ranks defences by their worst case where they serve benign users about equally well.

A defence counts by the setting with the worst clone among those that take no more than a stated
loss from benign users; one without such a setting is listed and not ranked. A rank is one more than
the number of defences that a paired t test, corrected by Holm for all pairs of a board, shows to be
copied less. Of a defence that was played at several settings the best one by these clones is
tested, so that its p value is multiplied by their number.
"""

import math
import tomllib
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

from arena.analysis.effects import CONTROL, LEVEL, DefenceEffects, Effect, defence_effects
from arena.analysis.games import Game
from arena.analysis.gaps import Gap, gap_of
from arena.analysis.image_sampling import accuracy_interval
from arena.analysis.intervals import Interval
from arena.analysis.paired_tests import holm
from arena.analysis.pooled import scored_best
from arena.analysis.scoreboard import ScoreRow, by_defender, scoreboard
from arena.analysis.sweeps import CLONE, Setting, Sweep, mean_over, sweeps_of
from arena.assessment.assessed import assessed
from arena.assessment.flags import Flag
from arena.assessment.sequence import NAME, chosen
from arena.log.rows import EpisodeRow
from arena.log.store import Log
from arena.scenario import Scenario
from envs.errors import ScenarioError


class Place(NamedTuple):
    """One defence on a board.

    Attributes:
        rank: one more than the number of defences shown to be copied less; None where every
            setting takes too much from benign users.
        defence: name of its sweep.
        setting: the defender that stands for it.
        settings: how many it was played at.
        worst: accuracy of the best clone of each seed.
        by: the attack that is best on average.
        attackers: how many met it.
        lost: to benign users, beside the undefended victim; None for that one, or unmeasured.
        effects: held against the undefended victim; None for that one.
        flags: raised, where the episodes are those of an assessment; None elsewhere.
    """

    rank: int | None
    defence: str
    setting: str
    settings: int
    worst: Interval
    by: str
    attackers: int
    lost: float | None
    effects: DefenceEffects | None
    flags: tuple[Flag, ...] | None

    def effect(self, kind: str) -> Effect | None:
        """Return how it differs from the undefended victim in one kind, where measured."""
        return None if self.effects is None else self.effects.effects.get(kind)

    def as_dict(self) -> dict[str, object]:
        """Give plain values, accuracies as shares."""
        return {
            "rank": self.rank,
            "defence": self.defence,
            "setting": self.setting,
            "settings": self.settings,
            "worst_case": self.worst.mean,
            "interval": [self.worst.low, self.worst.high],
            "seeds": self.worst.n,
            "attack": self.by,
            "attackers": self.attackers,
            "users_lose": self.lost,
            "beside_undefended": self.effects and self.effects.as_dict(),
            "flags": None if self.flags is None else [one.name for one in self.flags],
        }


class Board(NamedTuple):
    """The defences of one game, those that are copied least first, unranked ones last."""

    game: Game
    places: tuple[Place, ...]


def leaderboards(log: Log, episodes: Sequence[EpisodeRow], *, loss: float) -> list[Board]:
    """Rank the defences of each game in which the undefended victim was played.

    Args:
        log: holds the episodes.
        episodes: of any scenarios.
        loss: accuracy that a defence may take from benign users.
    """
    board = scoreboard(episodes)
    boards = []
    for game in dict.fromkeys(row.game for row in board):
        rows = [row for row in board if row.game == game]
        if any(row.defender == CONTROL for row in rows):
            places = _places(rows, _flags(log, rows), loss)
            if places:
                boards.append(Board(game, places))
    return boards


class _Candidate(NamedTuple):
    """The setting that stands for a defence.

    Attributes:
        lost: by benign users, where known.
        choices: settings that serve well enough, of which this one was chosen by its clones.
    """

    sweep: Sweep
    setting: Setting
    lost: float | None
    choices: int

    @property
    def admitted(self) -> bool:
        """Whether it serves well enough."""
        return self.choices > 0


def _places(
    rows: Sequence[ScoreRow], flags: Mapping[str, tuple[Flag, ...]], loss: float
) -> tuple[Place, ...]:
    sweeps = sweeps_of(rows)
    control = next((one.settings[0] for one in sweeps if one.settings[0].defender == CONTROL), None)
    candidates = [_candidate(one, control, loss) for one in sweeps]
    candidates.sort(key=lambda one: (not one.admitted, _clone(one.setting)))
    ranks = _ranks([one for one in candidates if one.admitted], by_defender(rows))
    effects = {one.defender: one for one in defence_effects(rows)}
    places = [
        Place(
            ranks[place] if one.admitted else None,
            one.sweep.name,
            one.setting.defender,
            len(one.sweep.settings),
            accuracy_interval(list(one.setting.clone.values()), one.setting.images),
            one.setting.worst,
            len(one.setting.attackers),
            one.lost,
            effects.get(one.setting.defender),
            flags.get(one.setting.defender),
        )
        for place, one in enumerate(candidates)
    ]
    return tuple(sorted(places, key=lambda one: math.inf if one.rank is None else one.rank))


def _candidate(sweep: Sweep, control: Setting | None, loss: float) -> _Candidate:
    """Take the setting with the worst clone among those that serve well enough, or of all."""
    lost = {one.defender: _lost(one, control) for one in sweep.settings}
    # a loss that is not known cannot be held against a defence
    admitted = [one for one in sweep.settings if (lost[one.defender] or 0.0) <= loss + 1e-12]
    setting = min(admitted or sweep.settings, key=_clone)
    return _Candidate(sweep, setting, lost[setting.defender], len(admitted))


def _clone(setting: Setting) -> float:
    return mean_over(setting.clone, list(setting.clone))


def _lost(setting: Setting, control: Setting | None) -> float | None:
    """Subtract what benign users got from what they get undefended, on the seeds of both."""
    if control is None or setting.defender == control.defender:
        return None
    seeds = [seed for seed in setting.served if seed in control.served]
    if not seeds:
        return None
    return mean_over(control.served, seeds) - mean_over(setting.served, seeds)


def _ranks(candidates: Sequence[_Candidate], rows: Mapping[str, Sequence[ScoreRow]]) -> list[int]:
    """Rank each defence one below those that a test shows to be copied less."""
    pairs = list(combinations(range(len(candidates)), 2))
    gaps = [_gap(candidates[one].setting, candidates[other].setting, rows) for one, other in pairs]
    less = [
        # the first of a pair has the worse clone, but not always on the seeds that both have
        one if gap is not None and gap.difference.mean < 0 else other
        for (one, other), gap in zip(pairs, gaps, strict=True)
    ]
    adjusted = holm([
        1.0 if gap is None else min(1.0, gap.p * candidates[one].choices)
        for one, gap in zip(less, gaps, strict=True)
    ])  # fmt: skip
    ranks = [1] * len(candidates)
    for pair, one, p in zip(pairs, less, adjusted, strict=True):
        if p <= LEVEL:
            ranks[sum(pair) - one] += 1
    return ranks


def _gap(first: Setting, second: Setting, rows: Mapping[str, Sequence[ScoreRow]]) -> Gap | None:
    sides = (scored_best(rows[first.defender]), scored_best(rows[second.defender]))
    return gap_of(CLONE, sides, (first.clone, second.clone))


def _flags(log: Log, rows: Sequence[ScoreRow]) -> dict[str, tuple[Flag, ...]]:
    """Test the flags of an assessment's episodes; nothing of other scenarios' is known."""
    if not rows[0].scenario.startswith(NAME):
        return {}
    episodes = [one for row in rows for one in row.episodes.values()]
    runs = {run.id: run for run in log.runs()}
    text = runs[max(episodes, key=lambda one: one.started).run_id].scenario_text
    try:
        sequence = chosen(Scenario.parse(tomllib.loads(text)))
    except (ScenarioError, tomllib.TOMLDecodeError):  # of another version, or damaged
        return {}
    found = assessed(log, episodes, sequence)
    return {one.defender: tuple(one.raised) for one in found.budgets[-1].defenders}
