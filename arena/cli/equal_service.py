"""`arena compare --equal-service`: two defences where they serve benign users equally well."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from arena.cli.common import out
from arena.cli.render import write_json, write_line, write_table

if TYPE_CHECKING:
    from arena.analysis.equal_service import Level
    from arena.log.rows import EpisodeRow


def show_equal_service(
    episodes: "Sequence[EpisodeRow]", first: str, second: str, *, json: bool
) -> None:
    """Compare two defences, each named by what its settings' names have in common."""
    from arena.analysis.equal_service import at_equal_service
    from arena.analysis.scoreboard import scoreboard
    from arena.analysis.sweeps import named, sweeps_of

    sweeps = sweeps_of(scoreboard(episodes))
    found = at_equal_service(named(sweeps, first), named(sweeps, second))
    if json:
        write_json(found.as_dict())
        return
    console = out()
    if found.levels:
        write_line(console, "clone accuracy of the best attacker, at equal served accuracy, %")
        columns = (f"served by {first}", f"by {second}", f"clone, {first}", f"clone, {second}",
                   "difference", "95 % t", f"{first} at", f"{second} at")  # fmt: skip
        write_table(console, columns, [_line(level) for level in found.levels], right=columns[:6])
        write_line(console, f"{len(found.seeds)} seeds; between two settings on the straight line "
                            f"between their figures; served accuracies at most half a point "
                            f"apart; intervals not corrected for their number")  # fmt: skip
    else:
        write_line(console, found.reason)
    for note in found.notes:
        write_line(console, note)


def _line(level: "Level") -> tuple[str, ...]:
    gap = level.difference
    reach = (
        "-" if gap.low is None or gap.high is None else f"{_points(gap.low)} to {_points(gap.high)}"
    )
    return (
        f"{100 * level.first.served:.1f}",
        f"{100 * level.second.served:.1f}",
        f"{100 * level.first.mean:.1f}",
        f"{100 * level.second.mean:.1f}",
        _points(gap.mean),
        reach,
        level.first.at,
        level.second.at,
    )


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
