"""`arena serve`: serve a defended victim over HTTP, for attackers in other processes."""

import secrets
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

from arena.cli.common import DeviceOption, FileArgument, QuietOption, SetOption, out, pick_device
from arena.cli.loading import load_one
from arena.cli.progress import watching
from arena.cli.render import write_line
from arena.report.formatting import count_text
from envs.errors import ArenaError, ScenarioError, UnknownName

if TYPE_CHECKING:
    from arena.http.server import Account
    from arena.runner.progress import Watcher
    from arena.scenario import EpisodePlan, Scenario


def serve(
    file: FileArgument,
    defender: Annotated[
        str | None, typer.Option(help="One of the scenario's defenders. Default: the first.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=BUDGET]",
            help="API key, with its own budget if given; repeatable. Default: attacker.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 picks a free one.")] = 8151,
    set_: SetOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
) -> None:
    """Serve a scenario's defended victim over the Open Inference Protocol, until Ctrl-C."""
    try:
        from arena.http.server import create_app
    except ModuleNotFoundError as error:
        raise ArenaError(
            "arena serve needs the extra 'serve': pip install 'fortress-arena[serve]'"
        ) from error
    scenario = load_one(file, set_)
    plan = _plan(scenario, defender)
    budgets = [_budget(one, plan.threat.budget) for one in key or ["attacker"]]
    with watching(quiet=quiet) as watcher:
        accounts = _open(plan, budgets, device=pick_device(device), watcher=watcher)
    listening = _listen(host, port)
    address = f"http://{host}:{listening.getsockname()[1]}"
    write_line(out(), f"{plan.defender.name} of {scenario.name}, seed {plan.seed}, at {address}")
    for secret, account in accounts.items():
        left = count_text(account.game.remaining)
        write_line(out(), f"key of {account.name}: {secret} ({left} queries)")
    _run(create_app(accounts), listening)
    for account in accounts.values():
        used = count_text(account.game.used)
        write_line(out(), f"{account.name} used {used} of "
                          f"{count_text(account.game.threat.budget)} queries")  # fmt: skip


def _plan(scenario: "Scenario", defender: str | None) -> "EpisodePlan":
    names = [spec.name for spec in scenario.defenders]
    if defender is not None and defender not in names:
        raise UnknownName("defender of this scenario", defender, names)
    wanted = defender or names[0]
    for attacker, spec in scenario.pairs:
        if spec.name == wanted:
            # one game is served: the others are not resolved, nor are their data looked at
            one = {"attackers": (attacker,), "defenders": (spec,), "seeds": scenario.seeds[:1]}
            return scenario.model_copy(update=one).plans()[0]
    raise ScenarioError(f"no attacker of this scenario meets the defender '{wanted}'")


def _budget(text: str, default: int) -> tuple[str, int]:
    """Read NAME or NAME=BUDGET."""
    name, given, number = text.partition("=")
    digits = number.replace("_", "")
    if not name or (given and not (digits.isdecimal() and int(digits) > 0)):
        raise ScenarioError(f"--key {text}: expected NAME or NAME=BUDGET, a whole number above 0")
    return name, int(digits) if given else default


def _open(
    plan: "EpisodePlan", budgets: list[tuple[str, int]], *, device: str, watcher: "Watcher"
) -> "dict[str, Account]":
    """Prepare the victim, and a game for each key; each key has streams of its own."""
    from arena.http.server import Account
    from arena.runner.setup import Setup
    from arena.system.devices import pick_device as place
    from envs.game.extraction_game import ExtractionGame
    from envs.seeding import Streams

    setup = Setup(place(device), watcher)
    accounts = {}
    for name, budget in budgets:
        own = plan.model_copy(update={"threat": plan.threat.model_copy(update={"budget": budget})})
        defender_setup = setup.set_up_defender(own)
        streams = Streams(plan.seed).child(f"key/{name}")
        game = ExtractionGame(
            setup.threat(own),
            defender_setup.deployed_defences,
            defender_setup.defender,
            clock=setup.clock(own, streams),
            streams=streams,
            traffic=setup.traffic(own, streams),
        )
        accounts[secrets.token_urlsafe(24)] = Account(name, game)
    return accounts


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=64)
    except OSError as error:
        raise ArenaError(
            f"cannot listen on {host}:{port}: {error.strerror}; use another --port"
        ) from error


def _run(app: object, listening: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        log_level="warning",
        lifespan="off",
        limit_concurrency=256,  # so that clients that open and ask nothing do not take all
    )
    with listening, suppress(KeyboardInterrupt):  # which uvicorn raises again once it has stopped
        uvicorn.Server(config).run(sockets=[listening])
