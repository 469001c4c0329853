"""`arena report`: one HTML file about some episodes, and their figures."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import LogOption, out
from arena.cli.filters import RunsArgument, chosen_ids, filtered
from arena.cli.places import require_file, require_folder
from arena.cli.render import write_line

if TYPE_CHECKING:
    from arena.log.episode_filter import EpisodeFilter


@filtered("scenario", "attacker", "defender", "status", "run", "where", "seed", "since", "until")
def report(
    ids: RunsArgument = None,
    out_file: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="HTML file to write.")
    ] = Path("report.html"),
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures", metavar="DIR", help="Write the figures there too, as PNG and SVG."
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    which: "EpisodeFilter | None" = None,
    log: LogOption = None,
) -> None:
    """Write a self-contained report about episodes: scoreboard, findings, figures, details."""
    require_file(out_file)
    require_folder(figures)
    from arena.log.store import Log
    from arena.report.html import write_report
    from arena.report.plots import write_figures

    with Log.open(log, create=False) as store:
        chosen = chosen_ids(store, ids or [], which)
        paths = [write_report(store, chosen, out_file, title=title)]
        if figures is not None:
            paths += write_figures(store, chosen, figures)
    for path in paths:
        write_line(out(), str(path))
