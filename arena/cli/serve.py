"""`arena serve`: serve a defended victim over HTTP, for attackers in other processes."""

import json
import math
import secrets
import signal
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from arena.cli.common import (
    FAILED,
    DeviceOption,
    FileArgument,
    LogOption,
    QuietOption,
    SetOption,
    out,
    pick_device,
)
from arena.cli.loading import load_one, refuse_sweep
from arena.cli.places import require_log
from arena.cli.progress import watching
from arena.cli.render import write_line
from arena.report.formatting import count_text, percent
from arena.runner.stopping import stopping
from arena.system.staying import staying
from envs.errors import ArenaError, ScenarioError, UnknownName, shortened

NAME_CHARACTERS = 100
"""Of a key, as of a player in a scenario."""

if TYPE_CHECKING:
    from fastapi import FastAPI

    from arena.http.server import Account
    from arena.log.rows import EpisodeRow, RunRecord
    from arena.log.store import Log
    from arena.runner.progress import Watcher
    from arena.runner.serving import ServedEpisode
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
    log: LogOption = None,
    device: DeviceOption = None,
    quiet: QuietOption = False,
) -> None:
    """Serve a scenario's defended victim over the Open Inference Protocol, until Ctrl-C or SIGTERM.

    Each key is an episode of the log: what it asked, how it was answered, and the score of the
    clone that it hands over at its end. Where the scenario has several accounts, each of them gets
    a key, and all keys of a name are one episode. What a key of that name has used in the log
    before stays used.
    """
    require_log(log)
    try:
        from arena.http.server import Account, create_app
    except ModuleNotFoundError as error:
        raise ArenaError(
            "arena serve needs the extra 'serve': pip install 'fortress-arena[serve]'"
        ) from error
    from arena.log.store import Log

    scenario = load_one(file, set_)
    plan = _plan(scenario, defender)
    budgets = _budgets(key or ["attacker"], plan.threat.budget)
    with staying(), stopping() as stop, _listen(host, port) as listening, Log.open(log) as store:
        with watching(quiet=quiet) as watcher:
            episodes = open_episodes(
                scenario, plan, budgets, store, device=pick_device(device), watcher=watcher
            )
        accounts: dict[str, Account] = {}
        for name, episode in episodes.items():
            count, turn = episode.game.threat.accounts, threading.Lock()
            for number in range(count):
                holder = name if count == 1 else f"{name}, account {number}"
                accounts[secrets.token_urlsafe(24)] = Account(
                    holder, episode.game, number, episode.score, turn
                )
        try:
            _tell(plan, scenario, accounts, f"http://{host}:{listening.getsockname()[1]}")
            _run(create_app(accounts), listening)
        finally:
            rows = _close(episodes, store.where)
        ended_by = stop.signal
    if any(row.status == "error" for row in rows):
        raise typer.Exit(FAILED)
    if ended_by not in (None, signal.SIGINT):  # Ctrl-C is how a server is meant to end
        raise typer.Exit(128 + ended_by)


def _tell(
    plan: "EpisodePlan", scenario: "Scenario", accounts: "Mapping[str, Account]", url: str
) -> None:
    """Say what is served where, and how it is asked."""
    from arena.http.protocol import MODEL
    from arena.http.server import described

    console = out()
    write_line(console, f"{plan.defender.name} of {scenario.name}, seed {plan.seed}, at {url}")
    told = described(next(iter(accounts.values())))
    write_line(console, f"Open Inference Protocol v2, model {url}/v2/models/{MODEL}")
    for kind in ("inputs", "outputs"):
        tensors = (f"{one['name']} {one['datatype']} {one['shape']}" for one in told[kind])
        write_line(console, f"{kind}: {', '.join(tensors)}")
    for secret, account in accounts.items():
        left, most = account.game.remaining, account.game.threat.account_budget
        left = left if most is None else min(left, most)
        write_line(console, f"key of {account.name}: {secret} ({count_text(left)} queries)")
    write_line(console, "ask one grey image, which costs one query:")
    write_line(console, _curl(url, next(iter(accounts)), told["inputs"][0]), to_copy=True)


def _curl(url: str, secret: str, images: "Mapping[str, Any]") -> str:
    """Write a command for a shell that asks one image."""
    from arena.http.protocol import MODEL

    shape = [1, *images["shape"][1:]]
    values = f"$(yes 0.5 | head -n {math.prod(shape)} | paste -sd, -)"
    asked = {"name": images["name"], "datatype": images["datatype"], "shape": shape, "data": []}
    body = json.dumps({"inputs": [asked]}).replace('"', '\\"').replace("[]", f"[{values}]")
    return (f"curl -s {url}/v2/models/{MODEL}/infer -H 'Authorization: Bearer {secret}' "
            f'-d "{body}"')  # fmt: skip


def _close(episodes: "Mapping[str, ServedEpisode]", where: str) -> "list[EpisodeRow]":
    """Close every key's episode, and say what came of it; returns their rows."""
    rows = {name: episode.finish() for name, episode in episodes.items()}
    for name, row in rows.items():
        clone = "handed over no clone"
        if row.clone_accuracy is not None:
            clone = f"its clone has {percent(row.clone_accuracy)} % accuracy"
        write_line(out(), f"{name} used {count_text(row.queries_used or 0)} of "
                          f"{count_text(row.budget)} queries, and {clone} ({row.id})")  # fmt: skip
        if row.error:
            write_line(out(), row.error)
    write_line(out(), f"log: {where}")
    return list(rows.values())


def _plan(scenario: "Scenario", defender: str | None) -> "EpisodePlan":
    if scenario.victim.is_remote:
        raise ScenarioError("the victim of this scenario is served elsewhere already; ask it there")
    refuse_sweep(scenario, "a server plays one game")
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


def _budgets(keys: list[str], default: int) -> dict[str, int]:
    """Read each NAME or NAME=BUDGET."""
    budgets: dict[str, int] = {}
    for text in keys:
        name, given, number = text.partition("=")
        digits = number.replace("_", "")
        if not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
            raise ScenarioError(
                f"--key {shortened(text, 80)}: expected a name of at most {NAME_CHARACTERS} "
                f"printable characters"
            )
        if given and not (digits.isdecimal() and len(digits) < 19 and int(digits) > 0):
            raise ScenarioError(
                f"--key {shortened(text, 80)}: expected NAME or NAME=BUDGET, a whole number above "
                f"0 of at most 18 digits"
            )
        if name in budgets:
            raise ScenarioError(f"--key {text}: {name} is there twice; give each key a name")
        budgets[name] = int(digits) if given else default
    return budgets


def open_episodes(
    scenario: "Scenario",
    plan: "EpisodePlan",
    budgets: "Mapping[str, int]",
    log: "Log",
    *,
    device: str,
    watcher: "Watcher",
) -> "dict[str, ServedEpisode]":
    """Prepare the victim, and begin a run with an episode for each key, by its name.

    Raises:
        ArenaError: no key has anything left to ask; or see `arena.runner.serving.before`.
    """
    from arena.recording.tape import require_places
    from arena.runner.run_record import run_record
    from arena.runner.serving import ServedEpisode
    from arena.runner.setup import Setup
    from arena.system.devices import pick_device as place

    require_places(log.where, record=scenario.record, keep=scenario.keep)
    setup = Setup(place(device), watcher, holds=True)
    record = run_record(
        "arena serve", place(device), scenario_name=scenario.name, scenario_text=scenario.text
    )
    left = _left(plan, budgets, log, record)
    run = log.begin_run(record)
    episodes: dict[str, ServedEpisode] = {}
    try:
        for name, (budget, seen) in left.items():
            threat = plan.threat.model_copy(update={"budget": budget})
            own = plan.model_copy(update={"threat": threat})
            episodes[name] = ServedEpisode(own, name, setup, log, run=run, record=record, seen=seen)
    except BaseException:
        for episode in episodes.values():
            episode.finish()
        raise
    return episodes


def _left(
    plan: "EpisodePlan", budgets: "Mapping[str, int]", log: "Log", record: "RunRecord"
) -> dict[str, tuple[int, tuple[str, ...]]]:
    """Tell what each key did in this log; returns what it has left to ask, and its episodes."""
    from arena.runner.serving import before

    left = {}
    for name, budget in budgets.items():
        earlier = before(log, plan, name, record)
        used = f"{count_text(earlier.used)} of its {count_text(budget)} queries"
        if earlier.over:
            told = f"{name} gets no key: {earlier.over} in this log"
        elif earlier.used >= budget:
            told = f"{name} gets no key: it has used {used} in this log"
        else:
            left[name] = budget - earlier.used, earlier.episodes
            told = f"{name} goes on: it has used {used} in this log"
        if earlier.episodes:
            write_line(out(), f"{told} ({earlier.episodes[0]})")
    if not left:
        raise ArenaError("no key may ask anything; begin anew with another --key NAME or another "
                         "--log, or give more by --key NAME=BUDGET")  # fmt: skip
    return left


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=64)
    except OSError as error:
        raise ArenaError(
            f"cannot listen on {host}:{port}: {error.strerror}; use another --port"
        ) from error


def _run(app: "FastAPI", listening: socket.socket) -> None:
    import uvicorn

    from arena.http.arrival import server_config

    with listening, suppress(KeyboardInterrupt):  # uvicorn raises signals again once it has stopped
        uvicorn.Server(server_config(app)).run(sockets=[listening])
