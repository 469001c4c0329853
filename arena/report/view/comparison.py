"""Two episodes side by side: how their settings differ, and what came of each."""

from collections.abc import Sequence
from typing import NamedTuple

from arena.analysis.games import differing_paths, setting_text
from arena.analysis.metrics import measures_of
from arena.log.outcome import METRICS
from arena.log.reader import LogReader
from arena.log.rows import EpisodeRow
from arena.report.formatting import number, without_machine_paths
from arena.report.live import Found
from arena.report.tables import episode_facts
from arena.report.view.addresses import filled
from arena.report.view.episode_page import course_of, title_of
from arena.scenario.settings import flat
from envs.errors import ScenarioError

NONE = "\N{EN DASH}"
"""Stands for what one of the two does not have."""


class Beside(NamedTuple):
    """A row of the page: a name, what each episode has, and the second minus the first."""

    name: str
    first: str
    second: str
    difference: str = ""


def comparison_page(log: LogReader, ids: Sequence[str]) -> Found:
    """Give the page of two episodes.

    Args:
        log: holds them.
        ids: of them, or beginnings of ids that no other has.

    Raises:
        UnknownName, LogError: no episode has an id, or several begin so.
        ScenarioError: they are not two.
    """
    if len(ids) != 2:
        raise ScenarioError(f"expected two episodes to compare, got {len(ids)}; go back and tick "
                            f"two")  # fmt: skip
    first, second = (log.episode(id) for id in ids)
    plans = [flat({**_names(row), **row.plan}) for row in (first, second)]
    paths = differing_paths(plans)
    settings = [Beside(path, *(_setting(plan, path) for plan in plans)) for path in paths]
    return filled(
        "comparison.html.j2",
        title="Two episodes side by side",
        titles=[title_of(row) for row in (first, second)],
        rows=(first, second),
        settings=settings,
        alike=len(set().union(*plans)) - len(paths),
        outcome=_outcome(first, second),
        courses=[course_of(log, row, log.events(row.id)) for row in (first, second)],
        swapped=f"/compare?id={second.id}&id={first.id}",
    )


def _names(row: EpisodeRow) -> dict[str, object]:
    """Give what an episode is called by, which plans from elsewhere may lack."""
    return {"scenario": row.scenario_name, "attacker": row.attacker, "defender": row.defender,
            "victim": row.victim, "clone": row.clone, "data": row.data}  # fmt: skip


def _setting(plan: dict[str, object], path: str) -> str:
    return without_machine_paths(setting_text(plan[path])) if path in plan else "absent"


def _outcome(first: EpisodeRow, second: EpisodeRow) -> list[Beside]:
    """Lay what was measured side by side."""
    sides = [dict(episode_facts(row)) for row in (first, second)]
    differences = _differences(first, second)
    names = list(dict.fromkeys([*sides[0], *sides[1]]))
    return [
        Beside(name, sides[0].get(name, NONE), sides[1].get(name, NONE), differences.get(name, ""))
        for name in names
    ]


def _differences(first: EpisodeRow, second: EpisodeRow) -> dict[str, str]:
    """Write the difference of every number by its label."""
    found = {
        metric.label: _difference(metric.unit, getattr(first, name), getattr(second, name))
        for name, metric in METRICS.items()
        if metric.unit != "digest"
    }
    for one in measures_of([first, second]).values():
        found[one.label] = _difference(one.unit, one.read(first), one.read(second))
    return found


def _difference(unit: str, one: float | None, other: float | None) -> str:
    """Write the second minus the first, with its sign; "" where one was not measured."""
    if one is None or other is None:
        return ""
    change = other - one
    if unit == "images":
        return f"{change:+,}" if change else "0"
    text = number(change, "points" if unit == "share" else unit)
    return f"+{text}" if change > 0 else text
