"""`arena view`: show a log in a browser, while episodes are played."""

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import LogOption, out
from arena.cli.filters import filtered
from arena.cli.render import write_line

if TYPE_CHECKING:
    from arena.log.episode_filter import EpisodeFilter

PATIENCE = 2.0
"""Seconds to wait for a locked log, at the start and for each answer."""


@filtered("scenario", "attacker", "defender", "status", "run", "where", "seed", "since")
def view(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 picks a free one.")
    ] = 8765,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    which: "EpisodeFilter | None" = None,
    log: LogOption = None,
) -> None:
    """Show episodes, their queries and the report in a browser on this machine, read-only."""
    from arena.log.store import Log

    with Log.open(log, create=False, read_only=True, busy_seconds=PATIENCE) as store:
        from arena.report.server import LiveServer
        from arena.report.view.site import Site

        with LiveServer(Site(store, which, title=title), port) as server:
            write_line(out(), f"{server.url} shows {store.where}; Ctrl-C stops it")
            with contextlib.suppress(KeyboardInterrupt):  # how it is ended
                server.serve_forever()
