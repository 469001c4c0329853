"""`arena run`: play scenarios and show the scoreboard."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from arena.cli.common import (
    FAILED,
    JsonOption,
    LogOption,
    QuietOption,
    SetOption,
    pick_device,
    tell,
)
from arena.cli.dry_run import show_dry_run
from arena.cli.loading import load_all, same_command, seeds_override
from arena.cli.match_shown import show_result, show_tracebacks, summary_of
from arena.cli.places import require_folder, require_log
from arena.cli.progress import watching
from arena.cli.render import write_json
from arena.report.formatting import counted
from arena.runner.stopping import stopping
from arena.system.output import stdout_to_stderr
from envs.errors import ArenaError, ScenarioError

if TYPE_CHECKING:
    from arena.log.store import Log
    from arena.runner.match_result import MatchResult
    from arena.scenario import Scenario

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="Scenario files, or names of shipped scenarios."),
]
Seeds = Annotated[
    str | None, typer.Option("--seeds", metavar="LIST", help="Replace the seeds: 0,1,2 or 0-9.")
]
Workers = Annotated[
    str,
    typer.Option(
        "--workers",
        "-j",
        metavar="N|ray[:ADDRESS]|slurm[:JOBS]",
        help="Number of episodes to play at once, each in its own process; or a Ray or Slurm "
        "cluster.",
    ),
]
Devices = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda or cuda:1; workers share cuda:0,cuda:1. Default: an accelerator, else cpu.",
    ),
]
SaveEvery = Annotated[
    float,
    typer.Option(
        "--save-every",
        min=0,
        metavar="SECONDS",
        help="Seconds between saves of long episodes, which resume after a kill; 0 saves none.",
    ),
]
Fresh = Annotated[
    bool,
    typer.Option("--fresh", help="Play every episode anew; skip none and resume none."),
]
Isolate = Annotated[
    bool,
    typer.Option(
        "--isolate",
        help="Play each attacker in a process of its own, without victim and test set; Linux.",
    ),
]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        "--time-limit",
        min=0.001,
        metavar="SECONDS",
        help="End an attack that takes longer; its episode is an error and keeps its rows.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "--figures",
        metavar="DIR",
        help="Folder for report and figures. Default: out/SCENARIO.",
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Begin no episode after one that failed.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say what would be played and skipped, and how long it takes."),
]
NoFigure = Annotated[bool, typer.Option("--no-figure", help="Write no report and draw nothing.")]


def run(
    context: typer.Context,
    files: Files,
    set_: SetOption = None,
    seeds: Seeds = None,
    log: LogOption = None,
    device: Devices = None,
    fresh: Fresh = False,
    workers: Workers = "1",
    save_every: SaveEvery = 30,
    isolate: Isolate = False,
    time_limit: TimeLimit = None,
    fail_fast: FailFast = False,
    dry_run: DryRun = False,
    out_dir: Out = None,
    no_figure: NoFigure = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Play scenarios and show the scoreboard. Skips episodes that the log already has."""
    if not dry_run:
        require_log(log)
        require_folder(None if no_figure else out_dir)
    with stdout_to_stderr():  # a file of players may print when it is imported
        overrides = [*(set_ or ()), *seeds_override(seeds), *_how_played(isolate, time_limit)]
        scenarios = load_all(files, overrides)
    if not (no_figure or dry_run):
        _refuse_one_name(scenarios, out_dir)
        for scenario in scenarios:
            require_folder(_place(scenario, out_dir))

    _warn_of_shared_clock(scenarios, workers)
    if dry_run:
        show_dry_run(scenarios, log, fresh=fresh, workers=workers, json=json)
        return
    from arena.log.store import Log
    from arena.runner.match import require_playable

    how = How(pick_device(device), fresh, workers, save_every, fail_fast)
    require_playable(scenarios, log, device=how.device, workers=workers)
    results, told, incomplete = [], [], False
    with stopping() as stop, Log.open(log) as store:
        for scenario in scenarios:
            result = play_shown(scenario, store, how, quiet=quiet)
            paths: list[Path] = []
            try:
                if not no_figure:
                    paths = _write_up(scenario, result, store, folder=out_dir)
            except ArenaError as error:
                incomplete = True
                tell(f"report and figures are incomplete: {error}")
            results.append(result)
            if context.find_root().params.get("debug"):
                show_tracebacks(result, store)
            told.append(summary_of(scenario, result, paths))
            if not json:
                show_result(scenario, result, paths, where=store.where)
            if result.interrupted or (fail_fast and result.failed):
                break
    if json:
        write_json({"log": store.where, "scenarios": told})
    if any(result.interrupted for result in results):
        left = counted(_left(results, scenarios), "episode")
        tell(
            f"interrupted with {left} left; {same_command(scenarios, fresh=fresh)}; "
            f"the log has what was measured, see 'arena episodes'"
        )
        raise typer.Exit(stop.exit_code)
    if fail_fast and any(one.failed for one in results):
        left = counted(_left(results, scenarios), "episode")
        tell(f"stopped after a failure with {left} left; {same_command(scenarios)}")
    if incomplete or any(result.failed for result in results):
        raise typer.Exit(FAILED)


def _left(results: "Sequence[MatchResult]", scenarios: "Sequence[Scenario]") -> int:
    """Count the episodes that the same command would still play."""
    begun = sum(result.left for result in results)
    rest = scenarios[len(results) :]
    return begun + sum(one.size if one.search else len(one.plans()) for one in rest)


def _refuse_one_name(scenarios: "Sequence[Scenario]", folder: Path | None) -> None:
    """Refuse scenarios whose reports or figures would replace one another.

    Raises:
        ScenarioError: names the first two.
    """
    if len(scenarios) < 2:
        return
    from arena.report.plots.figures import file_stems

    seen: dict[str, str] = {}
    for one in scenarios:
        # figures of several scenarios in one folder are told apart by a shorter name
        (place,) = [one.name] if folder is None else file_stems([one.name])
        if place in seen:
            raise ScenarioError(
                f"the report or figures of '{one.name}' would replace those of '{seen[place]}'; "
                f"play them one by one with an --out of their own, or with --no-figure"
            )
        seen[place] = one.name


def _warn_of_shared_clock(scenarios: "Sequence[Scenario]", workers: str) -> None:
    """Warn where episodes that measure real time share the machine."""
    timed = [one.name for one in scenarios if one.threat.latency == "wall"]
    if timed and workers != "1":
        tell(
            f'{", ".join(timed)}: threat.latency = "wall" measures real time, which {workers} '
            f"workers that share a machine falsify; play it with --workers 1"
        )


def _how_played(isolate: bool, time_limit: float | None) -> list[str]:
    """Turn options into overrides of a scenario."""
    limit = [] if time_limit is None else [f"time_limit={time_limit!r}"]
    return limit + (['isolation="process"'] if isolate else [])


class How(NamedTuple):
    """The options of playing."""

    device: str
    fresh: bool
    workers: str
    save_every: float
    fail_fast: bool


def play_shown(scenario: "Scenario", log: "Log", how: How, *, quiet: bool) -> "MatchResult":
    """Play a scenario and show its progress."""
    from arena.runner.match import play
    from arena.runner.saves.schedule import Saving

    command = shlex.join(["arena", *sys.argv[1:]])

    def outcome(episode_id: str) -> float | None:
        return log.episode(episode_id).clone_accuracy

    with watching(quiet=quiet, outcome=outcome) as watcher:
        if scenario.drawn_seed is not None:
            watcher.line(f"{scenario.name} names no seeds; drew {scenario.drawn_seed}")
        return play(
            scenario,
            log=log,
            watcher=watcher,
            device=how.device,
            fresh=how.fresh,
            workers=how.workers,
            command=command,
            saving=Saving(seconds=how.save_every),
            fail_fast=how.fail_fast,
        )


def _place(scenario: "Scenario", folder: Path | None) -> Path:
    """Say where report and figures go."""
    return folder or Path("out") / scenario.name


def _write_up(
    scenario: "Scenario", result: "MatchResult", log: "Log", *, folder: Path | None
) -> list[Path]:
    """Write report and figures; a match without a success has none, which is no failure.

    Raises:
        ArenaError: a file cannot be written.
    """
    from arena.report.html import write_report
    from arena.report.plots import write_figures

    finished = [row.id for row in result.episodes if row.status == "success"]
    if not finished:
        return []
    place = _place(scenario, folder)
    report = write_report(log, finished, place / f"{scenario.name}.html")
    return [report, *write_figures(log, finished, place)]
