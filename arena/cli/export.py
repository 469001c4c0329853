"""`arena export`: write a table of the log to a file for other programs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import LogOption, out
from arena.cli.filters import filtered
from arena.cli.render import write_line
from arena.report.formatting import counted

if TYPE_CHECKING:
    from arena.log.episode_filter import EpisodeFilter


@filtered("scenario", "attacker", "defender", "status", "run", "where", "seed", "since", "until")
def export(
    table: Annotated[
        str,
        typer.Argument(
            metavar="TABLE",
            help="episodes, checkpoints, rounds, inferences, events, accounts or artifacts.",
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            "--format", "-f", help="csv, jsonl or parquet. Default: by file name, else csv."
        ),
    ] = None,
    out_file: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write. Default: standard output."
        ),
    ] = None,
    which: "EpisodeFilter | None" = None,
    log: LogOption = None,
) -> None:
    """Write a table of the log to a file; each row names its scenario, players and seed."""
    from arena.log.export import export as write
    from arena.log.store import Log

    kind = format or (out_file.suffix.removeprefix(".").lower() if out_file else "") or "csv"
    with Log.open(log, create=False) as store:
        count = write(store, table, kind, out_file or sys.stdout, which=which)
    if out_file is not None:
        write_line(out(), f"{out_file}: {counted(count, 'row')}")
