"""`arena export`: write a table of the log to a file for other programs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from arena.cli.common import LogOption, out
from arena.cli.filters import (
    AttackerOption,
    DefenderOption,
    RunOption,
    ScenarioOption,
    SeedOption,
    SinceOption,
    StatusOption,
    UntilOption,
    narrowed,
)
from arena.cli.render import write_line
from arena.report.formatting import counted


def export(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="episodes, checkpoints, rounds, inferences, events or artifacts.",
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option("--format", "-f", help="csv, jsonl or parquet. Default: the file's ending."),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write. Default: standard output."
        ),
    ] = None,
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
    """Write a table of the log to a file; each row names its scenario, players and seed."""
    from arena.log.export import export as write
    from arena.log.store import Log

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
    kind = format or (out_file.suffix.removeprefix(".").lower() if out_file else "") or "csv"
    with Log.open(log, create=False) as store:
        count = write(store, table, kind, out_file or sys.stdout, which=which)
    if out_file is not None:
        write_line(out(), f"{out_file}: {counted(count, 'row')}")
