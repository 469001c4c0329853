"""`arena assess`: a fixed sequence of attacks, its worst case and flags, as an evidence pack."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import (
    FAILED,
    JsonOption,
    LogOption,
    QuietOption,
    SetOption,
    out,
    pick_device,
    tell,
)
from arena.cli.dry_run import show_dry_run
from arena.cli.loading import load_one, refuse_sweep, same_command, seeds_override
from arena.cli.places import require_folder, require_log
from arena.cli.render import write_json, write_line, write_table
from arena.cli.run import Devices, DryRun, How, SaveEvery, Seeds, Workers, play_shown
from arena.report.formatting import count_text, counted, listed
from arena.runner.stopping import stopping
from arena.system.output import stdout_to_stderr
from envs.errors import ScenarioError

if TYPE_CHECKING:
    from arena.assessment.assessed import Assessment
    from arena.log.rows import EpisodeRow


def assess(
    file: Annotated[
        str,
        typer.Argument(metavar="SCENARIO", help="A scenario file, or the name of a shipped one."),
    ],
    folder: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Folder for the evidence pack. "
                                                        "Default: out/assess-SCENARIO."),
    ] = None,
    budgets: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Budgets, such as 1000,10_000. Default: a quarter of "
                                          "the scenario's, and all of it."),
    ] = None,
    set_: SetOption = None,
    seeds: Seeds = None,
    log: LogOption = None,
    device: Devices = None,
    workers: Workers = "1",
    save_every: SaveEvery = 30,
    dry_run: DryRun = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:  # fmt: skip
    """Attack a scenario's defenders by a fixed sequence, and write an evidence pack.

    The sequence follows from the threat model; the scenario's own attackers do not play. Episodes
    that the log has are skipped, so that the same command resumes.
    """
    if not dry_run:
        require_log(log)
        require_folder(folder)
    with stdout_to_stderr():  # a file of players may print when it is imported
        scenario = load_one(file, [*(set_ or ()), *seeds_override(seeds)])
    refuse_sweep(scenario, "an assessment is of one setting")
    amounts = _amounts(budgets, scenario.threat.budget)
    command = shlex.join(["arena", *sys.argv[1:]])
    from arena.assessment.assessed import assessed
    from arena.assessment.pack import as_dict, write_pack
    from arena.assessment.sequence import assessed_scenario, chosen
    from arena.log.store import Log
    from arena.runner.match import require_playable

    sequence = chosen(scenario)
    played = [assessed_scenario(scenario, sequence.attacks, amount) for amount in amounts]
    for one in played:
        one.check()
    if dry_run:
        show_dry_run(played, log, fresh=False, workers=workers, json=json)
        return
    place = folder or Path("out") / played[0].name
    require_folder(place)
    how = How(pick_device(device), False, workers, save_every, False)
    require_playable(played, log, device=how.device, workers=workers)
    with stopping() as stop, Log.open(log) as store:
        episodes: list[EpisodeRow] = []
        for one in played:
            result = play_shown(one, store, how, quiet=quiet)
            episodes += result.episodes
            if result.interrupted:
                tell(f"interrupted; {same_command([scenario])}")
                raise typer.Exit(stop.exit_code)
        found = assessed(store, episodes, sequence)
    paths = write_pack(found, scenario, command, place)
    if json:
        told = as_dict(found, scenario, command)
        write_json({"log": store.where, "files": paths, "assessment": told})
    else:
        _show(found, paths)
        write_line(out(), f"log: {store.where}")
    if found.failed:
        raise typer.Exit(FAILED)


def _amounts(budgets: str | None, whole: int) -> list[int]:
    """Read the budgets, rising.

    Raises:
        ScenarioError: it is no list of whole numbers from 1.
    """
    if budgets is None:
        return sorted({max(1, whole // 4), whole})
    try:
        found = sorted({int(part) for part in budgets.split(",")})
    except ValueError:
        found = [0]
    if found[0] < 1:
        raise ScenarioError(f"--budgets: expected numbers like 1000,10_000, got '{budgets}'")
    return found


def _show(found: "Assessment", paths: tuple[Path, ...]) -> None:
    """Write the worst cases, the raised flags, what was left out and what was written where."""
    from arena.assessment.page import headlines, worst_lines

    console = out()
    budgets = [f"{count_text(one.budget)} queries" for one in found.budgets]
    rows = [
        (line.defender, *(_cell(cell, by) for cell, by in line.cells), line.flags or "none")
        for line in worst_lines(found)
    ]
    columns = ("defender", *budgets, "flags")
    write_line(console, "worst case: accuracy of the best clone of each seed, and the attack")
    write_table(console, columns, rows, optional=tuple(budgets[:-1]))
    for text in headlines(found):
        write_line(console, text)
    if found.budgets:
        for one in found.budgets[-1].defenders:
            for flag in one.raised:
                write_line(console, f"{one.defender}: {flag.name}: {flag.evidence}. {flag.advice}")
    if found.chosen.left_out:
        names = listed([one.name for one in found.chosen.left_out])
        write_line(console, f"not admitted by the threat model: {names}")
    if found.failed:
        write_line(console, f"{counted(len(found.failed), 'episode')} failed, and is in no figure: "
                            f"arena episodes --status error")  # fmt: skip
    for path in paths:
        write_line(console, str(path))


def _cell(cell: "tuple[str, ...]", by: str) -> str:
    mean, interval, *_ = cell
    return " ".join(filter(None, (mean, f"({interval})" if interval else "", by)))
