"""`arena run --dry-run`: what would be played, what is skipped, and how long it takes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from arena.cli.common import out, tell
from arena.cli.render import write_json, write_line, write_table
from arena.report.formatting import counted, duration_text
from envs.errors import LogMissing

if TYPE_CHECKING:
    from arena.log.rows import EpisodeRow
    from arena.log.store import Log
    from arena.scenario import EpisodePlan, Scenario


class Forecast(NamedTuple):
    """The episodes of one meeting.

    Attributes:
        attacker, defender: who meets.
        play, skip: how many would be played, and how many the log has.
        seconds: one takes so long; None where the log knows no like one.
    """

    attacker: str
    defender: str
    play: int
    skip: int
    seconds: float | None


def show_dry_run(
    scenarios: "Sequence[Scenario]", log: str | None, *, fresh: bool, workers: str, json: bool
) -> None:
    """Write a forecast of each scenario; nothing is played, and no log is made."""
    from arena.log.episode_filter import EpisodeFilter
    from arena.log.store import Log
    from arena.runner.workers.options import WorkerOptions

    for scenario in scenarios:
        if scenario.search is not None:
            tell(f"{scenario.name}: a search plays {counted(scenario.size, 'episode')} at most, "
                 f"and knows them when it plays")  # fmt: skip
    scenarios = [one for one in scenarios if one.search is None]
    options = WorkerOptions.of(workers)
    at_once = options.jobs or options.workers
    told = []
    try:
        with Log.open(log, create=False, read_only=True) as store:
            like = store.episodes(EpisodeFilter(status="success", kind="play"))
            found = [_forecasts(scenario, store, like, fresh=fresh) for scenario in scenarios]
    except LogMissing:
        found = [_forecasts(scenario, None, (), fresh=fresh) for scenario in scenarios]
    for scenario, forecasts in zip(scenarios, found, strict=True):
        told.append({"name": scenario.name, "meetings": [one._asdict() for one in forecasts],
                     "seconds": _seconds(forecasts, at_once)})  # fmt: skip
        if not json:
            _write(scenario.name, forecasts, at_once)
    if json:
        write_json({"scenarios": told})


def _forecasts(
    scenario: "Scenario", log: "Log | None", like: "Sequence[EpisodeRow]", *, fresh: bool
) -> list[Forecast]:
    meetings: dict[tuple[str, str], list[EpisodePlan]] = defaultdict(list)
    for plan in scenario.plans():
        meetings[plan.attacker.name, plan.defender.name].append(plan)
    found = []
    for (attacker, defender), plans in meetings.items():
        left = [one for one in plans if fresh or log is None or log.finished(one.hash) is None]
        # the plans of a sweep differ in what they take, and those that are left count
        seconds = _mean_seconds(left or plans, like)
        found.append(Forecast(attacker, defender, len(left), len(plans) - len(left), seconds))
    return found


def _mean_seconds(plans: "Sequence[EpisodePlan]", like: "Sequence[EpisodeRow]") -> float | None:
    """Average how long the plans of a meeting take; None where that is not known of one."""
    counts = Counter((one.threat.budget, one.victim.use, one.clone.use) for one in plans)
    some = {(one.threat.budget, one.victim.use, one.clone.use): one for one in plans}
    total = 0.0
    for kind, plan in some.items():
        seconds = _seconds_of(plan, like)
        if seconds is None:
            return None
        total += counts[kind] * seconds
    return total / len(plans)


def _seconds_of(plan: "EpisodePlan", like: "Sequence[EpisodeRow]") -> float | None:
    """Average how long like episodes took for each query, and scale it to the plan's budget.

    Like are those of both players' names, or else of the attacker's; of the same budget, where
    there are any, because what an episode takes whatever its budget is scaled too.
    """
    attacked = [
        row
        for row in like
        if row.attacker == plan.attacker.name and row.wall_seconds and row.clone == plan.clone.use
        and row.victim == plan.victim.use
    ]  # fmt: skip
    same = [row for row in attacked if row.defender == plan.defender.name] or attacked
    if not same:
        return None
    same = [row for row in same if row.budget == plan.threat.budget] or same
    each = sum(row.wall_seconds or 0.0 for row in same) / sum(row.budget for row in same)
    return each * plan.threat.budget


def _seconds(forecasts: Sequence[Forecast], at_once: int) -> float | None:
    """Add up what is to be played; None where the time of a meeting is not known.

    No more workers play at once than there are episodes.
    """
    parts = [None if one.seconds is None else one.play * one.seconds
             for one in forecasts if one.play]  # fmt: skip
    known = [part for part in parts if part is not None]
    busy = max(1, min(at_once, sum(one.play for one in forecasts)))
    return sum(known) / busy if len(known) == len(parts) else None


def _write(name: str, forecasts: Sequence[Forecast], at_once: int) -> None:
    console = out()
    play, skip = (sum(getattr(one, side) for one in forecasts) for side in ("play", "skip"))
    seconds = _seconds(forecasts, at_once)
    time = "nothing to play" if not play else (
        "no estimate: the log has no like episode of every meeting" if seconds is None
        else f"about {duration_text(round(seconds))} with {counted(at_once, 'worker')}"
    )  # fmt: skip
    write_line(console, f"{name}: {counted(play, 'episode')} to play, {skip} skipped; {time}")
    rows = [
        (one.attacker, one.defender, str(one.play), str(one.skip), duration_text(one.seconds))
        for one in forecasts
    ]
    columns = ("attacker", "defender", "play", "skip", "each")
    write_table(console, columns, rows, right=columns[2:])
