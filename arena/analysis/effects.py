"""Tells what each defence brings and costs: every defender against the undefended one.

Differences are taken seed by seed, over the attackers that met both sides on that seed. Each
column of the table is a family of tests, corrected by Holm for the number of defenders.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from arena.analysis.gaps import Gap, gap_of
from arena.analysis.intervals import Interval, mean_interval
from arena.analysis.metrics import MEASURES
from arena.analysis.paired_tests import holm
from arena.analysis.pooled import scored_best
from arena.analysis.scoreboard import ScoreRow, by_defender, scored
from envs.errors import UnknownName

CONTROL = "undefended"
"""The defender that others are held against, unless the caller names another."""

LEVEL = 0.05
"""How often, at most, a column shows an effect of a defence that has none."""

FROM_CACHE = 0.01
"""Seconds of hardening below which nothing was trained: all of it came from the cache."""


class EffectKind(NamedTuple):
    """Something in which a defender differs from the control.

    Attributes:
        heading: of its column; differences are in points.
        measure: out of `arena.analysis.metrics.MEASURES`.
        over: the attackers count by their highest value of each seed, or by their mean.
        sign: -1 where the control's value minus the defender's is told.
        wanted: 1 where the defender wants it high, -1 low.
    """

    heading: str
    measure: str
    over: Literal["best", "mean"]
    sign: int
    wanted: int


KINDS: Mapping[str, EffectKind] = {
    "copied_less_best": EffectKind("copied less, best attack", "clone_accuracy", "best", -1, 1),
    "copied_less_mean": EffectKind("copied less, mean of attacks", "clone_accuracy", "mean", -1, 1),
    "users_lose": EffectKind("lost by benign users", "served_accuracy", "mean", -1, -1),
    "attack_compute": EffectKind("compute per attack query", "attack_compute_share", "mean", 1, -1),
    "benign_compute": EffectKind("compute per benign query", "benign_compute_share", "mean", 1, -1),
}
"""What is told of each defender, in points: hundredths of an accuracy or of the whole network."""


class Effect(NamedTuple):
    """How a defender differs from the control in one kind.

    Attributes:
        gap: the differences, seed by seed.
        interval: of their mean, at the level at which Holm's procedure tests it: it holds 0
            exactly where `adjusted_p` is above `LEVEL`, unless all differences are alike: these
            have no spread to test them by.
        adjusted_p: of the paired t test, corrected by Holm for the defenders of the column.
    """

    gap: Gap
    interval: Interval
    adjusted_p: float

    @property
    def shown(self) -> bool:
        """Whether a test shows the effect."""
        return self.adjusted_p <= LEVEL


def told_kinds(found: Sequence["DefenceEffects"]) -> list[str]:
    """List the kinds that were measured; against one attacker the best attack is the mean."""
    alone = all(len(one.attackers) == 1 for one in found)
    return [
        kind
        for kind in KINDS
        if any(kind in one.effects for one in found) and not (alone and kind == "copied_less_mean")
    ]


class DefenceEffects(NamedTuple):
    """What one defender brings and costs.

    Attributes:
        defender: its name.
        attackers: who met both it and the control.
        effects: by kind; absent where one side has no measurement.
        hardening: seconds that it took to train what it serves, over the seeds where that was not
            taken from the cache; None where it always was.
    """

    defender: str
    attackers: tuple[str, ...]
    effects: Mapping[str, Effect]
    hardening: Interval | None

    def as_dict(self) -> dict[str, object]:
        """Give plain values, in shares of 1."""
        took = self.hardening
        return {
            "defender": self.defender,
            "attackers": list(self.attackers),
            **{kind: _told(effect) for kind, effect in self.effects.items()},
            "hardening_seconds": took and {"mean": took.mean, "low": took.low, "high": took.high},
        }


def _told(effect: Effect) -> dict[str, object]:
    found, raw = effect.interval, effect.gap.interval()
    return {
        "mean": found.mean,
        "low": found.low,
        "high": found.high,
        "confidence": found.confidence,
        "low_uncorrected": raw.low,
        "high_uncorrected": raw.high,
        "p_holm": effect.adjusted_p,
        "seeds": list(effect.gap.seeds),
    }


def defence_effects(board: Sequence[ScoreRow]) -> list[DefenceEffects]:
    """Hold every defender of a game against the undefended one; empty where none was played."""
    return effects_of(board) if any(row.defender == CONTROL for row in board) else []


def effects_of(board: Sequence[ScoreRow], control: str = CONTROL) -> list[DefenceEffects]:
    """Hold every defender of a game against the control, those that are copied least first.

    Args:
        board: the rows of one game.
        control: name of a defender; of several variants the first.

    Raises:
        UnknownName: the game has no such defender.
    """
    defenders = by_defender(board)
    names = [name for name, rows in defenders.items() if control in (name, rows[0].defender)]
    if not names:
        raise UnknownName("defender with a successful play", control, defenders)
    base = defenders.pop(names[0])
    found: dict[str, dict[str, Effect]] = {name: {} for name in defenders}
    for kind, what in KINDS.items():
        gaps = {name: _gap(what, rows, base) for name, rows in defenders.items()}
        known = {name: gap for name, gap in gaps.items() if gap is not None}
        for name, effect in _corrected(what, known).items():
            found[name][kind] = effect
    against = {row.attack for row in base}
    told = [
        DefenceEffects(
            name,
            tuple(row.attack for row in rows if row.attack in against),
            found[name],
            _hardening(rows),
        )
        for name, rows in defenders.items()
        if found[name]
    ]
    return sorted(told, key=_copied_less, reverse=True)


def _copied_less(one: DefenceEffects) -> float:
    effect = one.effects.get("copied_less_best")
    return effect.interval.mean if effect else float("-inf")


def _gap(kind: EffectKind, rows: Sequence[ScoreRow], base: Sequence[ScoreRow]) -> Gap | None:
    """Subtract the defender and the control on the attackers and seeds that both met."""
    sides = [{row.attack: row.by_seed(kind.measure) for row in side} for side in (rows, base)]
    met = [
        (attack, seed)
        for attack in sides[0]
        if attack in sides[1]
        for seed in sides[0][attack].keys() & sides[1][attack].keys()
    ]
    if not met:
        return None
    pooled = [_pooled(kind, side, met) for side in sides]
    attacks = {attack for attack, _ in met}
    ours, theirs = ([row for row in side if row.attack in attacks] for side in (rows, base))
    if kind.over == "best":
        behind = tuple(scored_best(side, kind.measure, met=met) for side in (ours, theirs))
    else:
        behind = tuple(scored(side) for side in (ours, theirs))
    gap = gap_of(kind.measure, (behind[0], behind[1]), pooled)
    return gap and gap._replace(differences=tuple(kind.sign * one for one in gap.differences))


def _pooled(
    kind: EffectKind, side: Mapping[str, Mapping[int, float]], met: Sequence[tuple[str, int]]
) -> dict[int, float]:
    seeds: dict[int, list[float]] = {}
    for attack, seed in met:
        seeds.setdefault(seed, []).append(side[attack][seed])
    if kind.over == "best":
        return {seed: max(values) for seed, values in seeds.items()}
    return {seed: sum(values) / len(values) for seed, values in seeds.items()}


def _corrected(kind: EffectKind, gaps: Mapping[str, Gap]) -> dict[str, Effect]:
    """Test each gap, and give its interval the level at which Holm's procedure tests it."""
    raw = {name: gap.p for name, gap in gaps.items()}
    adjusted = dict(zip(raw, holm(list(raw.values())), strict=True))
    effects, left = {}, len(raw)
    for name in sorted(raw, key=raw.__getitem__):
        found = gaps[name].interval(1 - LEVEL / left)
        if MEASURES[kind.measure].bounds == (0, 1):
            found = found.within(-1, 1)
        effects[name] = Effect(gaps[name], found, adjusted[name])
        # the procedure stops at the first that is not shown: all later ones share its level
        left -= adjusted[name] <= LEVEL
    return effects


def _hardening(rows: Sequence[ScoreRow]) -> Interval | None:
    seeds: dict[int, float] = {}
    for row in rows:
        for seed, episode in row.episodes.items():
            seeds[seed] = max(seeds.get(seed, 0.0), episode.harden_seconds or 0.0)
    trained = [seconds for seconds in seeds.values() if seconds >= FROM_CACHE]
    return mean_interval(trained).within(0, float("inf")) if trained else None
