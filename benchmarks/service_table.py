"""Makes the table of defences at equal service in docs/defences.md.

arena run equal_service --log service.db
python -m benchmarks.service_table --log service.db            prints it
python -m benchmarks.service_table --log service.db --write    puts it into the page and the CSV,
                                                               and draws the curves of the page
"""

import argparse
from collections.abc import Iterator, Sequence

from arena.analysis.episode_data import gather
from arena.analysis.equal_service import at_equal_service
from arena.analysis.intervals import mean_interval
from arena.analysis.scoreboard import scoreboard
from arena.analysis.sweeps import Setting, Sweep, named, sweeps_of
from arena.log.store import Log
from arena.report.plots.service import draw_service
from arena.report.plots.style import save
from benchmarks.attacker_table import RESULTS, newest, origin, publish, write_csv
from benchmarks.defence_table import PAGE
from benchmarks.pages import percent, table
from envs.errors import ArenaError

SCENARIO = "equal_service"
REFERENCE = "dnf_plus"
"""The defence that the others are compared with, where both serve equally well."""


def settings(sweeps: Sequence[Sweep]) -> str:
    """Write what each setting serves and gives away to its best attacker."""
    lines = [_setting(sweep, setting) for sweep in sweeps for setting in sweep.settings]
    return table(["defence", "setting", "served accuracy %", "L1", "best clone %", "by"], lines)


def _setting(sweep: Sweep, setting: Setting) -> list[str]:
    knob = sweep.knob.rsplit(".", 1)[-1]
    at = "" if setting.value is None else f"{knob} {setting.value:g}"
    moved = setting.distortion.values()
    return [
        f"`{sweep.name}`",
        at,
        percent(mean_interval(list(setting.served.values())).within(0, 1)),
        f"{sum(moved) / len(moved):.2f}" if moved else "-",
        percent(mean_interval(list(setting.clone.values())).within(0, 1)),
        setting.worst,
    ]


def differences(sweeps: Sequence[Sweep]) -> str:
    """Write how much more each defence gives away than each setting of the reference."""
    reference = named(sweeps, REFERENCE)
    others = [one for one in sweeps if one is not reference]
    lines = [line for one in others for line in _against(one, reference)]
    return table(
        ["defence", "at", f"`{REFERENCE}` at", "served % (both)", "best clones %", "more"], lines
    )


def _against(sweep: Sweep, reference: Sweep) -> Iterator[list[str]]:
    found = at_equal_service(sweep, reference)
    places = {setting.defender for setting in reference.settings}
    for level in found.levels:
        if level.second.at in places:
            yield [
                f"`{sweep.name}`",
                level.first.at.replace(f"{sweep.name} ", ""),
                level.second.at.replace(f"{REFERENCE} ", ""),
                f"{100 * level.first.served:.1f}, {100 * level.second.served:.1f}",
                f"{100 * level.first.mean:.1f}, {100 * level.second.mean:.1f}",
                percent(level.difference.within(-1, 1)),
            ]


def main() -> None:
    """Print the tables, or write them down."""
    parser = argparse.ArgumentParser(description="Defences at equal service.")
    parser.add_argument("--log", required=True, help="the log that equal_service was played into")
    parser.add_argument("--write", action="store_true", help="write them into the page and the CSV")
    asked = parser.parse_args()
    with Log.open(asked.log, create=False) as log:
        rows = newest(log, SCENARIO)
        about = origin(rows, SCENARIO)
        sweeps = sweeps_of(scoreboard(rows))
        drawing = draw_service(gather(log, [row.id for row in rows]))
    text = f"{about}\n\n{settings(sweeps)}\n\n{differences(sweeps)}"
    publish({"service": text}, PAGE, write=asked.write)
    if asked.write:
        write_csv(rows, RESULTS / "equal_service.csv")
        assert drawing is not None  # the scenario sweeps
        save(drawing, PAGE.parent / "equal-service.png")


if __name__ == "__main__":
    try:
        main()
    except ArenaError as error:
        raise SystemExit(str(error)) from None
