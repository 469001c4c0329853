"""`arena report`: one HTML file about some episodes, and their figures."""

from pathlib import Path
from typing import Annotated

import typer

from arena.cli.common import LogOption, out
from arena.cli.filters import (
    AttackerOption,
    DefenderOption,
    RunOption,
    RunsArgument,
    ScenarioOption,
    SeedOption,
    SinceOption,
    StatusOption,
    UntilOption,
    chosen_ids,
    narrowed,
)
from arena.cli.render import write_line


def report(
    ids: RunsArgument = None,
    out_file: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page.")] = Path(
        "report.html"
    ),
    figures: Annotated[
        Path | None,
        typer.Option("--figures", metavar="DIR", help="Draw the figures there too: png and svg."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    scenario: ScenarioOption = None,
    attacker: AttackerOption = None,
    defender: DefenderOption = None,
    status: StatusOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    log: LogOption = None,
) -> None:
    """Write a self-contained report about episodes: scoreboard, findings, figures, details."""
    from arena.log.store import Log
    from arena.report.html import write_report
    from arena.report.plots import write_figures

    which = narrowed(
        scenario=scenario,
        attacker=attacker,
        defender=defender,
        status=status,
        run=run,
        seed=seed,
        since=since,
        until=until,
    )
    with Log.open(log, create=False) as store:
        chosen = chosen_ids(store, ids or [], which)
        paths = [write_report(store, chosen, out_file, title=title)]
        if figures is not None:
            paths += write_figures(store, chosen, figures)
    for path in paths:
        write_line(out(), str(path))
