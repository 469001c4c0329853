"""Plays a sweep whose next points follow from the results of those before.

Nothing of a search is kept but its episodes: a search that was broken off is begun anew, asks for
the same points by its seed, finds them in the log, and goes on where it was.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from arena.log.rows import EpisodeRow
from arena.runner.match_result import Best, MatchResult
from arena.scenario import EpisodePlan, Scenario
from arena.scenario.sweep_spec import RangeSpec, SearchSpec, SweepSpec
from envs.errors import ArenaError

# `Any` in this file: values as TOML gives them, and Optuna's objects.

Values = Mapping[str, Any]


class Worth(NamedTuple):
    """What a point came to.

    Attributes:
        value: of the measure that is searched for.
        shortfall: by how much it is below what is asked at least, for each measure; 0 or less
            where it is not.
    """

    value: float
    shortfall: Mapping[str, float]

    @property
    def suffices(self) -> bool:
        """Whether it has what is asked at least."""
        return all(short <= 0 for short in self.shortfall.values())


class Found(NamedTuple):
    """A point that was played, and its worth; None where an episode of it failed."""

    values: Values
    worth: Worth | None


def search(
    scenario: Scenario, play: Callable[[Sequence[EpisodePlan]], MatchResult], *, fail_fast: bool
) -> MatchResult:
    """Play the points of a search.

    Args:
        scenario: has a sweep with a search.
        play: plays episodes that the log does not have.
        fail_fast: begin no point after an episode failed.

    Raises:
        ArenaError: Optuna is not installed, or a point cannot be played.
    """
    sweep = scenario.sweep
    assert sweep is not None
    assert sweep.search is not None
    assert sweep.draw is not None
    chooser, rows, skipped = Chooser(sweep), dict[str, EpisodeRow](), 0
    known: dict[str, Found] = {}
    interrupted, total, points = False, 0, 0
    while points < sweep.draw and not interrupted:
        asked = chooser.ask(min(sweep.search.together, sweep.draw - points))
        points += len(asked)
        fresh = {key: values for values in asked if (key := _key(values)) not in known}
        plans = {key: scenario.plans_at(values) for key, values in fresh.items()}
        result = play([plan for one in plans.values() for plan in one])
        total, skipped = total + result.total, skipped + result.skipped
        interrupted = result.interrupted
        rows |= {row.plan_hash: row for row in result.episodes}
        for key, values in fresh.items():
            mine = [rows.get(plan.hash) for plan in plans[key]]
            known[key] = Found(values, worth_of(mine, sweep.search))
        chooser.tell([known[_key(values)].worth for values in asked])
        if fail_fast and result.failed:
            break
    total += (sweep.draw - points) * len(scenario.pairs) * len(scenario.seeds)
    return MatchResult([*rows.values()], skipped, interrupted, total,
                       best_of([*known.values()], sweep.search))  # fmt: skip


def _key(values: Values) -> str:
    return json.dumps(values, sort_keys=True)


def worth_of(rows: Sequence[EpisodeRow | None], search: SearchSpec) -> Worth | None:
    """Judge the episodes of a point; None where one was not played to its end.

    Of each meeting the mean over seeds counts, and of the meetings the one that is worst for the
    search.
    """
    meetings: dict[tuple[str, str], list[EpisodeRow]] = defaultdict(list)
    for row in rows:
        if row is None or row.status != "success":
            return None
        meetings[row.attacker, row.defender].append(row)
    means: dict[str, list[float]] = {}
    for name in search.measures:
        measured = [[_measure(row, name) for row in mine] for mine in meetings.values()]
        if any(one is None or not math.isfinite(one) for mine in measured for one in mine):
            return None
        means[name] = [fmean(one for one in mine if one is not None) for mine in measured]
    aim = means[search.measures[0]]
    value = max(aim) if search.minimise else min(aim)
    return Worth(value, {name: least - min(means[name]) for name, least in search.at_least.items()})


def _measure(row: EpisodeRow, name: str) -> float | None:
    found = getattr(row, name, None)
    if found is None:
        found = (row.clone_metrics or {}).get(name)
    return float(found) if isinstance(found, int | float) else None


def best_of(found: Sequence[Found], search: SearchSpec) -> Best | None:
    """Return the best point that has what is asked at least; the first of equal ones."""
    played = [(one.values, one.worth) for one in found if one.worth is not None]
    enough = [(values, worth) for values, worth in played if worth.suffices]
    if not enough:
        return None
    choose = min if search.minimise else max
    values, worth = choose(enough, key=lambda one: one[1].value)
    return Best(values, search.measures[0], worth.value, len(played), len(played) - len(enough))


class Chooser:
    """Chooses points by Optuna's tree-structured Parzen estimator.

    The same file, and the same results, give the same points.

    Args:
        sweep: with a search.

    Raises:
        ArenaError: Optuna is not installed.

    Source:
        Bergstra et al. 2011, Algorithms for hyper-parameter optimization, NeurIPS.
    """

    def __init__(self, sweep: SweepSpec) -> None:
        optuna = _optuna()
        assert sweep.search is not None
        self._over, self._failed = sweep.over, optuna.trial.TrialState.FAIL
        before = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.WARNING)  # it writes a line for each study
        self._study: Any = optuna.create_study(
            direction="minimize" if sweep.search.minimise else "maximize",
            sampler=optuna.samplers.TPESampler(seed=sweep.seed % 2**32),
        )
        optuna.logging.set_verbosity(before)
        self._asked: list[Any] = []

    def ask(self, count: int) -> list[Values]:
        """Choose points; what they came to has to be told before the next are asked for."""
        self._asked = [self._study.ask() for _ in range(count)]
        return [
            {key: _chosen(trial, key, one) for key, one in self._over.items()}
            for trial in self._asked
        ]

    def tell(self, worths: Sequence[Worth | None]) -> None:
        """Take what the points came to, in the order in which they were asked for."""
        for trial, worth in zip(self._asked, worths, strict=True):
            if worth is None:
                self._study.tell(trial, state=self._failed)
                continue
            for name, short in worth.shortfall.items():
                trial.set_constraint(name, short)
            self._study.tell(trial, worth.value)


def _chosen(trial: Any, key: str, values: tuple[Any, ...] | RangeSpec) -> Any:
    if not isinstance(values, RangeSpec):  # by its place, because a value may be a table
        return values[trial.suggest_categorical(key, list(range(len(values))))]
    if values.whole:
        low, high = math.ceil(values.low), math.floor(values.high)
        return trial.suggest_int(key, low, high, log=values.log)
    return values.readable(trial.suggest_float(key, values.low, values.high, log=values.log))


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ArenaError(
            "sweep.search needs Optuna: pip install 'fortress-arena[optuna]'"
        ) from error
    return optuna
