"""Shows what came of a match: the scoreboard, what failed, and what was written where."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from arena.cli.common import err, out
from arena.cli.render import write_line, write_scoreboard
from arena.report.formatting import counted

if TYPE_CHECKING:
    from arena.log.store import Log
    from arena.runner.match_result import Best, MatchResult
    from arena.scenario import Scenario


def summary_of(
    scenario: "Scenario", result: "MatchResult", paths: Sequence[Path]
) -> dict[str, object]:
    """Return what `--json` tells of a scenario's match."""
    from arena.analysis.scoreboard import scoreboard

    return {
        "name": scenario.name,
        "seeds": scenario.seeds,
        "skipped": result.skipped,
        "interrupted": result.interrupted,
        **({} if scenario.search is None else {"best": result.best and result.best._asdict()}),
        "episodes": result.episodes,
        "scoreboard": [row.as_dict() for row in scoreboard(result.episodes, as_given=True)],
        "files": paths,
    }


def show_tracebacks(result: "MatchResult", log: "Log") -> None:
    """Write where players' code failed, on standard error."""
    for row in result.episodes:
        if row.status == "error":
            for event in log.events(row.id):
                if text := (event.data or {}).get("traceback"):
                    write_line(err(), f"{row.attacker} vs {row.defender}, seed {row.seed}:\n{text}")


def _best_line(best: "Best | None") -> str:
    """Tell what a search found."""
    from arena.registry.messages import value_text

    if best is None:
        return "best point: none was played to its end and has what the search asks at least"
    where = ", ".join(f"{key}={value_text(value)}" for key, value in best.values.items())
    below = f", {best.below} of them below what it asks at least" if best.below else ""
    return (f"best point: {where}, with {best.measure} {best.value:.4g} "
            f"({counted(best.points, 'point')} played{below})")  # fmt: skip


def show_result(
    scenario: "Scenario", result: "MatchResult", paths: Sequence[Path], *, where: str
) -> None:
    """Write the scoreboard, what failed, and what was written where."""
    from arena.analysis.scoreboard import scoreboard

    console = out()
    write_line(
        console, scenario.name + (f": {scenario.description}" if scenario.description else "")
    )
    rows = scoreboard(result.episodes, as_given=True)
    if rows:
        write_scoreboard(console, rows)
    for row in result.episodes:
        if row.status != "success":
            fate = f"{row.attacker} vs {row.defender}, seed {row.seed}: {row.status} ({row.id})"
            write_line(console, f"{fate}: {row.error or 'no reason given'}")
    if scenario.search is not None:
        write_line(console, _best_line(result.best))
    if result.skipped:
        write_line(console, f"{result.skipped} of {len(result.episodes)} skipped, because the log "
                            f"has them; --fresh plays them again")  # fmt: skip
    for path in paths:
        write_line(console, str(path))
    write_line(console, f"log: {where}")
