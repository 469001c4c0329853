"""Plays the timing probe by a real clock, and makes its table of docs/attackers.md.

    python -m benchmarks.real_clock --folder FOLDER [--only WORD WORD] [--games 20]
    python -m benchmarks.real_clock --folder FOLDER --games 0 --write

Two victims of `scenarios/real_clock.toml`, in the attacker's process or behind `arena serve` in
another one; each with plain exits, under constant time and without exits; on the machine as it is
and with a busy process pinned to each core. Two games are played at once: in process each on a
core of its own, behind the server as two of its clients. A cell's games are in logs of its own in
FOLDER, and games that are there are not played again; the load average before each play is kept
beside them. What a machine does otherwise is not ours to stop: for quiet cells have it idle. With
--write the table and the rows behind it are written down.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from arena.scenario import load
from benchmarks.pages import ROOT, write_page
from benchmarks.real_clock_table import (
    CLIENTS,
    SCENARIO,
    VICTIMS,
    Cell,
    cells,
    games,
    loads_of,
    row_of,
    table,
    write_rows,
)
from envs.errors import ArenaError

PAGE = ROOT / "docs" / "attackers.md"
THRESHOLDS = {"resnet18-8x": [0.2426, 0.2198, 0.2009], "mobilenetv2": [0.2181, 0.2317, 0.188]}
"""At which about a quarter of the probes of seeds 100 to 102 leaves from each exit."""


def play(cell: Cell, folder: Path, seeds: Sequence[int]) -> None:
    """Play the games of a cell that its logs lack."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{cell.name}.loads").open("a", encoding="utf-8") as loads:
        loads.write(f"{os.getloadavg()[0]:.1f}\n")
    with ExitStack() as stack:
        if cell.state == "loaded":
            stack.enter_context(busy_cores())
        if cell.place == "served":
            keys = stack.enter_context(served(cell, folder))
            games = [_client(cell, folder, name, keys) for name in CLIENTS]
        else:
            games = [_local(cell, folder, name) for name in CLIENTS]
        shares = zip(games, (seeds[::2], seeds[1::2]), _cores(cell), strict=True)
        playing = [_started(*share) for share in shares if share[1]]
        try:
            codes = [one.wait() for one in playing]
        finally:
            for one in playing:
                one.terminate()
        if any(codes):
            raise ArenaError(f"a play of {cell.name} failed; its words are in {folder}/*.out")


class Game(NamedTuple):
    """How a player's games are started: words of `arena run`, its output, its environment."""

    words: list[str]
    out: Path
    env: dict[str, str]


def _local(cell: Cell, folder: Path, name: str) -> Game:
    """Play in the attacker's process."""
    file = folder / f"{cell.name}.toml"
    file.write_text(local_scenario(cell), encoding="utf-8")
    return Game(_words(file, folder, cell, name), folder / f"{cell.name}-{name}.out", {})


def _client(cell: Cell, folder: Path, name: str, keys: "Keys") -> Game:
    """Play as a client of the server."""
    file = folder / f"{cell.name}-client.toml"
    file.write_text(client_scenario(cell, keys.url), encoding="utf-8")
    env = {"REAL_CLOCK_KEY": keys.secrets[name]}
    return Game(_words(file, folder, cell, name), folder / f"{cell.name}-{name}.out", env)


def _words(file: Path, folder: Path, cell: Cell, name: str) -> list[str]:
    log = folder / f"{cell.name}-{name}.db"
    return ["run", str(file), "--log", str(log), "--device", "cpu", "--no-figure", "--quiet"]


def _started(game: Game, seeds: Sequence[int], core: int | None) -> "subprocess.Popen[bytes]":
    words = [*game.words, "--seeds", ",".join(map(str, seeds))]
    with game.out.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "arena.cli", *words],
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", **game.env},
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
            start_new_session=True,  # some schedulers share cores among sessions
        )


def _cores(cell: Cell) -> list[int | None]:
    """Give each of two games in process a core of its own; a server and clients share all."""
    if cell.place == "served":
        return [None, None]
    cores = sorted(os.sched_getaffinity(0))
    return [cores[number % len(cores)] for number in range(2)]


@contextmanager
def busy_cores() -> Iterator[None]:
    """Keep a process computing on each core."""
    busy = [
        subprocess.Popen(
            [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile 1: pass"]
        )
        for core in sorted(os.sched_getaffinity(0))
    ]
    try:
        yield
    finally:
        for one in busy:
            one.kill()
            one.wait()


class Keys(NamedTuple):
    """A running server's address, and the secret of each client's key."""

    url: str
    secrets: dict[str, str]


@contextmanager
def served(cell: Cell, folder: Path) -> Iterator[Keys]:
    """Run `arena serve` for a cell, with a key for each client that no restart uses up."""
    file = folder / f"{cell.name}-server.toml"
    file.write_text(local_scenario(cell), encoding="utf-8")
    words = ["serve", str(file), "--port", "0", "--quiet", "--device", "cpu"]
    words += ["--log", str(folder / f"{cell.name}-server.db")]
    for name in CLIENTS:
        words += ["--key", f"{name}={100 * load(SCENARIO).threat.budget}"]
    server = subprocess.Popen(
        [sys.executable, "-m", "arena.cli", *words],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
    )
    try:
        yield _told(server)
    finally:
        server.terminate()
        server.communicate()


def _told(server: "subprocess.Popen[str]") -> Keys:
    """Read what the server says of itself."""
    assert server.stdout is not None
    url, secrets = "", {}
    for line in server.stdout:
        if found := re.search(r"model (http://\S+)", line):
            url = found[1]
        if found := re.search(r"key of (\w+): (\S+) ", line):
            secrets[found[1]] = found[2]
        if url and len(secrets) == len(CLIENTS):
            return Keys(url, secrets)
    raise ArenaError("the server ended before it told its address")


def local_scenario(cell: Cell) -> str:
    """Write the scenario of one victim and one defender."""
    by_name = {one.name: one for one in load(SCENARIO).defenders}
    exits = dict(by_name["plain"].defence[0].params) | {"thresholds": THRESHOLDS[cell.victim]}
    plain = {"use": "dnf", "params": exits}
    constant = {"use": "timing", "params": {"policy": "constant"}}
    layers = {
        "plain": plain,
        "plain+constant-time": {"use": "stack", "params": {"layers": [plain, constant]}},
        "undefended": {"use": "undefended"},
    }
    defender = {"name": cell.defender, "defence": [layers[cell.defender]]}
    return _toml(
        extends=SCENARIO,
        victim={"use": cell.victim},
        defenders=[defender],
    )


def client_scenario(cell: Cell, url: str) -> str:
    """Write the scenario of a client, who knows the address alone; the truth is for the score."""
    family, depth = VICTIMS[cell.victim]
    victim = {
        "use": url,
        "api_key_env": "REAL_CLOCK_KEY",
        "architecture": {"family": family, "depth": depth},
    }
    shipped = load(SCENARIO)
    attackers = [{"use": one.use, "params": dict(one.params)} for one in shipped.attackers]
    data = {
        "use": "shapes",
        "params": {"image_shape": [3, 32, 32], "train": 1000, "validation": 200, "test": 60},
    }
    return _toml(
        version=1,
        name=f"{SCENARIO}_client",
        data=data,
        checkpoints=1,
        victim=victim,
        clone="lenet5",
        threat={"budget": shipped.threat.budget, "latency": "wall"},
        attackers=attackers,
        defenders=[{"name": cell.defender, "defence": "undefended"}],
    )


def _toml(**content: object) -> str:
    import tomli_w

    return tomli_w.dumps(content)


def main() -> None:
    """Play what is missing, print the table, and write it down where asked."""
    parser = argparse.ArgumentParser(description="The real clock's table of docs/attackers.md.")
    parser.add_argument("--folder", type=Path, required=True, help="where logs are kept")
    parser.add_argument(
        "--only", nargs="+", default=[], help="cells with all of these words in their row"
    )
    parser.add_argument("--games", type=int, default=20, help="games of a cell; 0 plays none")
    parser.add_argument("--first", type=int, default=0, help="seed of the first game")
    parser.add_argument("--write", action="store_true", help="write the page and the CSV")
    asked = parser.parse_args()
    # an exception ends what was started, too: servers, clients, busy processes
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for cell in cells() if asked.games else []:
        if set(asked.only) <= set(cell):
            play(cell, asked.folder, range(asked.first, asked.first + asked.games))
            said = games(cell, asked.folder)
            print(row_of(cell, said, loads_of(cell, asked.folder)), flush=True)
    text = table(asked.folder)
    print(text)
    if asked.write:
        write_page(text, PAGE, mark="real-clock")
        write_rows(asked.folder)


if __name__ == "__main__":
    try:
        main()
    except ArenaError as error:
        raise SystemExit(str(error)) from None
