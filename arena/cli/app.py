"""Puts the commands together.

Torch, the database and matplotlib are imported inside functions, because `arena --help` has to
answer at once.
"""

import gc
from typing import Annotated

import typer

from arena.cli import (
    accounts,
    agents,
    assess,
    bench,
    check,
    compare,
    doctor,
    episodes,
    export,
    leaderboard,
    log,
    new,
    payoff,
    replay,
    report,
    run,
    scenarios,
    serve,
    train,
    view,
)
from arena.cli.common import ArenaGroup, out

app = typer.Typer(
    name="arena",
    cls=ArenaGroup,
    help="Play model extraction: attackers against defended victims, under a query budget.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

app.command("run")(run.run)
app.add_typer(scenarios.app, name="scenarios")
app.add_typer(episodes.app, name="episodes")
app.add_typer(log.app, name="log")
app.command("replay")(replay.replay)
app.command("compare")(compare.compare)
app.command("assess")(assess.assess)
app.command("leaderboard")(leaderboard.leaderboard)
app.command("accounts")(accounts.accounts)
app.command("report")(report.report)
app.command("payoff")(payoff.payoff)
app.command("view")(view.view)
app.command("export")(export.export)
app.command("agents")(agents.agents)
app.command("train")(train.train)
app.command("serve")(serve.serve)
app.command("check")(check.check)
app.add_typer(new.app, name="new")
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        out().print(f"arena {version('fortress-arena')}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Play model extraction: attackers against defended victims, under a query budget."""
    gc.enable()  # see `arena.cli.main`
