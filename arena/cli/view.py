"""`arena view`: serve the live report of a log to a browser."""

import contextlib
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
    narrowed,
)
from arena.cli.render import write_line

PATIENCE = 2.0
"""Seconds to wait for a locked log, at the start and for each answer."""


def view(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port on this machine; 0 picks a free one.")
    ] = 8765,
    title: Annotated[str | None, typer.Option(help="Title of the page.")] = None,
    scenario: ScenarioOption = None,
    attacker: AttackerOption = None,
    defender: DefenderOption = None,
    status: StatusOption = None,
    run: RunOption = None,
    seed: SeedOption = None,
    since: SinceOption = None,
    log: LogOption = None,
) -> None:
    """Serve the live report of a log on this machine; only reads the log."""
    from arena.log.store import Log

    which = narrowed(
        scenario=scenario,
        attacker=attacker,
        defender=defender,
        status=status,
        run=run,
        seed=seed,
        since=since,
    )
    with Log.open(log, create=False, read_only=True, busy_seconds=PATIENCE) as store:
        from arena.report.server import LivePage, LiveServer

        with LiveServer(LivePage(store, which, title=title), port) as server:
            write_line(out(), f"{server.url} shows {store.where}; Ctrl-C stops it")
            with contextlib.suppress(KeyboardInterrupt):  # how it is ended
                server.serve_forever()
