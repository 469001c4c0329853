"""Sorts defenders into sweeps: a defence at several settings of one knob, against all attackers."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from statistics import fmean

from arena.analysis.pooled import averaged_over_attackers
from arena.analysis.scoreboard import ScoreRow, by_defender
from arena.scenario.settings import flat
from envs.errors import ArenaError, UnknownName

CLONE, SERVED, DISTORTION = "clone_accuracy", "served_accuracy", "distortion_mean"

BySeed = Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Setting:
    """A defence at one setting, against all attackers that met it.

    Attributes:
        defender: its name.
        value: of the knob; None where the defence was played at one setting alone.
        attackers: who met it.
        worst: the attacker whose clone is best on the mean.
        clone: by seed, the accuracy of the best clone over the attackers.
        served: by seed, the accuracy served to benign users.
        distortion: by seed, the mean L1 distance of served answers; empty if never measured.
        images: test images behind the accuracies; None if unknown.
    """

    defender: str
    value: float | None
    attackers: tuple[str, ...]
    worst: str
    clone: BySeed
    served: BySeed
    distortion: BySeed
    images: int | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A defence at several settings of one knob, the settings in the knob's order.

    Attributes:
        name: what the names of the settings have in common.
        knob: path of the setting that differs; "" where there is one setting alone.
    """

    name: str
    knob: str
    settings: tuple[Setting, ...]


def sweeps_of(board: Sequence[ScoreRow]) -> list[Sweep]:
    """Sort the defenders of one game into sweeps, in their order of play.

    Defenders that differ in one number alone are one sweep; a defender that differs from every
    other in more is a sweep of one setting. One without a clone or without served accuracy is
    left out.

    Raises:
        ArenaError: rows of several games, or none.
    """
    games = list(dict.fromkeys(row.game.title for row in board))
    if len(games) != 1:
        raise ArenaError(f"expected defenders of one scenario and setting, got {len(games)} "
                         f"({'; '.join(games) or 'none'}); choose with --scenario and "
                         f"--where")  # fmt: skip
    rows = by_defender(board)
    found: list[Sweep] = []
    alone = dict.fromkeys(rows)
    for (knob, _), values in _families(rows).items():
        names = sorted(values, key=values.__getitem__)
        settings = [one for name in names if (one := _setting(name, rows[name], values[name]))]
        if len(settings) > 1:
            found.append(Sweep(_shared_name(names, knob), knob, tuple(settings)))
            for name in names:
                alone.pop(name, None)
    singles = (_setting(name, rows[name], None) for name in alone)
    found += [Sweep(one.defender, "", (one,)) for one in singles if one is not None]
    order = list(rows)
    return sorted(found, key=lambda sweep: order.index(sweep.settings[0].defender))


def named(sweeps: Sequence[Sweep], name: str) -> Sweep:
    """Find a sweep by its name.

    Raises:
        UnknownName: there is none.
    """
    for sweep in sweeps:
        if name == sweep.name:
            return sweep
    raise UnknownName("defence with a served accuracy", name, [sweep.name for sweep in sweeps])


def _families(
    rows: Mapping[str, Sequence[ScoreRow]],
) -> dict[tuple[str, object], dict[str, float]]:
    """Group defenders by all settings but one number; gives that number of each, by name.

    A defender of two groups (of a grid) stays in the larger one.
    """
    groups: dict[tuple[str, object], dict[str, float]] = defaultdict(dict)
    for name, mine in rows.items():
        settings = _defender_settings(mine[0])
        for path, value in settings.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                rest = {other: repr(what) for other, what in settings.items() if other != path}
                groups[path, frozenset(rest.items())][name] = float(value)
    taken: set[str] = set()
    kept = {}
    for key, values in sorted(groups.items(), key=lambda item: -len(set(item[1].values()))):
        free = {name: value for name, value in values.items() if name not in taken}
        if len(set(free.values())) > 1:
            kept[key] = free
            taken |= free.keys()
    return kept


def _defender_settings(row: ScoreRow) -> dict[str, object]:
    plan = next(iter(row.episodes.values())).plan
    settings = flat(plan.get("defender") or {})
    settings.pop("name", None)
    return settings


def _setting(name: str, rows: Sequence[ScoreRow], value: float | None) -> Setting | None:
    met = [row for row in rows if row.by_seed(CLONE)]
    if not met:
        return None
    clones = {row.attack: row.by_seed(CLONE) for row in met}
    seeds = sorted(set.intersection(*(set(of_seeds) for of_seeds in clones.values())))
    served, distortion = (
        averaged_over_attackers(met, SERVED),
        averaged_over_attackers(met, DISTORTION),
    )
    if not seeds or not served.keys() & set(seeds):
        return None
    return Setting(
        name,
        value,
        tuple(clones),
        max(clones, key=lambda attacker: mean_over(clones[attacker], seeds)),
        {seed: max(clone[seed] for clone in clones.values()) for seed in seeds},
        served,
        distortion,
        met[0].images,
    )


def _shared_name(names: Sequence[str], knob: str) -> str:
    """Take out of "randp epsilon=0.1" and "randp epsilon=0.5" what is the defence's."""
    alike = (letters[0] for letters in takewhile(_all_equal, zip(*names, strict=False)))
    shared = re.sub(r"[\d.]*$", "", "".join(alike))
    shared = re.sub(rf"{re.escape(knob.rsplit('.')[-1])}\W*$", "", shared)
    return shared.rstrip(" -_=@(") or " / ".join(names[:2])


def _all_equal(letters: Sequence[str]) -> bool:
    return len(set(letters)) == 1


def mean_over(values: BySeed, seeds: Sequence[int]) -> float:
    """Average over those of the seeds that have a value."""
    return fmean(values[seed] for seed in seeds if seed in values)
