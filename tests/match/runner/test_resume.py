"""A broken-off episode goes on from its save and ends as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict, replace

import pytest

from agents.attackers.dfme import DFME
from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.recording.shards import rounds_on_tape
from arena.registry import players
from arena.runner.match import play
from arena.runner.progress import Watcher
from arena.runner.saves.store import SaveStore
from envs.errors import LogError
from envs.game.digests import fold

TIMES = {
    "id", "run_id", "pid", "host", "process_started", "heartbeat", "started", "finished",
    "content_digest", "time", "wall_seconds", "harden_seconds", "attack_seconds", "benign_seconds",
    "attack_seconds_mean", "benign_seconds_mean", "path",
}  # fmt: skip


def account(log, row):
    """Everything the log says of an episode, but for times and the break itself."""
    shards = [file for file in log.artifacts(row.id) if file.kind == "queries"]
    assert [file.meta["shard"] for file in shards] == list(range(len(shards)))
    tape = rounds_on_tape(log, row.id) if shards else ()
    parts = {
        "episode": [row],
        "rounds": log.rounds(row.id),
        "checkpoints": log.checkpoints(row.id),
        "inferences": log.inferences(row.id),
        "artifacts": log.artifacts(row.id),  # shards too, with their digests
        "events": [event for event in log.events(row.id) if event.kind != "resumed"],
    }
    return {
        name: [{k: v for k, v in asdict(row).items() if k not in TIMES} for row in rows]
        for name, rows in parts.items()
    } | {"tape": [(len(one.images), fold(one.images), fold(one.posteriors)) for one in tape]}


def resumed_and_straight(tmp_path, wanted, break_off, *points, saving):
    """Play once through, and once broken off at every point; returns both accounts."""
    with Log.open(tmp_path / "straight.db") as log:
        (row,) = play(wanted, log=log, saving=replace(saving, seconds=0)).episodes
        straight = account(log, row)
    assert row.status == "success", row.error
    with Log.open(tmp_path / "resumed.db") as log:
        store = SaveStore(log.where)
        for point in points:
            break_off(point)
            assert play(wanted, log=log, saving=saving).interrupted
            (row,) = log.episodes(EpisodeFilter())
            assert not store.find(row.id).pickled
        break_off(None)
        (row,) = play(wanted, log=log, saving=saving).episodes
        assert len(log.episodes(EpisodeFilter())) == 1
        events = [event for event in log.events(row.id) if event.kind == "resumed"]
        assert len(events) == len(points)
        assert all("interrupted by the user" in event.message for event in events)
        assert not store.folder.exists()  # a played episode leaves no save
        return account(log, row), straight


PHASES = """shares = [1.0, 1.0, 2.0]
phases = [
    { use = "exit-timing", params = { hardware = "cpu" } },
    { use = "noise" },
    { use = "dfme", params = { batch = 16 } },
]
"""
CASES = {
    "noise": "",
    "random-generator": "batch = 32",
    "dfme": "batch = 16",
    "disguide": "batch = 16\ncapacity = 300",
    "dual-students": "batch = 16",
    "argmax": "batch = 16",
    "averaging": "batch = 16\nrepeats = 2\nduplicates = 'jitter'",
    "recovery": "batch = 16\npairs = 500\nrepeats = 2",
    "inversion": "batch = 16\nlabelled = 40",
    "relabelled": "batch = 16\nlabelled = 40",
    "confidence-filter": "batch = 16\nlook = 60\nconstant = 3.0",
    "latency-filter": "batch = 16\nlook = 60",
    "strategy-thief": "batch = 16\nlook = 300",
    "slowdown": "batch = 16\nsteps = 2",
    "knockoff": "budgets = [200, 600]\nepochs = 2\nrequest = 50\npolicy = 'adaptive'",
    "active-thief": "choices = 4\nround_epochs = 2\nepochs = 2\nrequest = 50",
    "s4l": "epochs = 2\nrequest = 50",
    "e3": "epochs = 3\nrequest = 50\nalignment = 0.5",
    "jbda": "epochs = 2\nseeds = 40\nvariant = 't-rnd'",
    "maze": "batch = 16\ndirections = 2\nreplays = 2",
    "dfms-hl": "gan_epochs = 3\nclone_epochs = 2\ndiversity_epochs = 2",
    "guard-surrogate": "epochs = 1\nsurrogates = 1\nguard_steps = 5\nmoves = 2\nrequest = 50",
    "rule-finder": "epochs = 1\nsteps = 5\nrequest = 50",
    "campaign": PHASES,
}


QUICK = ("dfme",)


@pytest.mark.parametrize(
    "attacker", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                 for name in CASES]
)  # fmt: skip
def test_an_episode_broken_off_thrice_ends_bit_for_bit_as_one_played_through(
    tmp_path, scenario, break_off, attacker, always
):
    player = {"use": attacker, "params": tomllib.loads(CASES[attacker])}
    changes = {"attackers": [player], "threat": {"latency": "virtual"}}
    if "pool" in players.attackers.create(attacker).requires:
        changes["threat"]["pool"] = {"use": "digits", "params": {"split": "validation"}}
    resumed, straight = resumed_and_straight(
        tmp_path, scenario(changes), break_off, 300, 500, 890, saving=always
    )
    assert resumed == straight


def test_every_built_in_attacker_can_be_resumed_but_those_that_play_for_minutes():
    able = {name for name in players.attackers.builtin if players.attackers.create(name).resumable}
    short = {"exit-timing", "late-knockoff", "decoy-filter", "repeats"}  # played within minutes
    assert set(players.attackers.builtin) - able == short
    assert able == set(CASES)


class Early(DFME):
    """Asks something before DFME does, which DFME's `resume` knows nothing of."""

    def attack(self, oracle, kit):
        super().attack(oracle, kit)


class Sound(Early):
    def attack(self, oracle, kit):
        super().attack(oracle, kit)

    def resume(self, oracle, kit):
        super().resume(oracle, kit)


def test_who_overrides_attack_alone_is_not_resumed_by_the_method_of_another():
    assert not Early().resumable
    assert Sound().resumable


LIVELY = {
    "record": "queries",
    "threat": {"latency": "virtual"},
    "defenders": [
        {
            "name": "lively",
            "use": "detector",
            "defence": [{"use": "randp", "params": {"randomness": "fresh"}}, "undefended"],
        }
    ],
}


def test_defenders_tapes_and_chance_go_on_where_they_stood(tmp_path, scenario, break_off, always):
    wanted = scenario(LIVELY)
    resumed, straight = resumed_and_straight(tmp_path, wanted, break_off, 200, 700, saving=always)
    assert sum(size for size, *_ in straight["tape"]) == 1000
    assert resumed == straight


def test_what_a_defence_remembers_of_each_account_goes_on(tmp_path, scenario, break_off, always):
    queen = {"shadows": 2, "asked": 1, "map_epochs": 5, "reach": 99.0, "limit": 1e-6}
    wanted = scenario(
        {
            "record": "queries",
            "threat": {"accounts": 3, "account_policy": "round-robin"},
            "defenders": [{"name": "queen", "defence": [{"use": "queen", "params": queen}]}],
        }
    )
    resumed, straight = resumed_and_straight(tmp_path, wanted, break_off, 200, 700, saving=always)
    assert resumed == straight


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_command_that_is_killed_at_three_random_points_ends_with_the_same_scores(
    tmp_path, tiny_file
):
    path = tiny_file(attackers=[{"use": "dfme"}], threat={"budget": 40_000})
    command = [sys.executable, "-m", "arena.cli", "run", str(path),
               "--no-figure", "--save-every", "0.01", "--device", "cpu"]  # fmt: skip
    straight = tmp_path / "straight.db"
    subprocess.run([*command, "--log", str(straight)], check=True, capture_output=True)
    killed = tmp_path / "killed.db"
    for share in sorted(random.Random(time.time_ns()).uniform(0.05, 0.8) for _ in range(3)):
        process = subprocess.Popen([*command, "--log", str(killed)], stderr=subprocess.DEVNULL)
        try:
            while process.poll() is None and not (
                played_by(killed) == process.pid and saved(killed) >= share * 40_000
            ):
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == -signal.SIGKILL  # it had not come to its end
    done = subprocess.run([*command, "--log", str(killed)], check=True, capture_output=True)
    assert b"resuming at" in done.stderr
    accounts = []
    for path in (straight, killed):
        with Log.open(path) as log:
            (row,) = log.episodes(EpisodeFilter())
            accounts.append(account(log, row))
            resumed = [event for event in log.events(row.id) if event.kind == "resumed"]
    assert len(resumed) == 3
    assert accounts[0] == accounts[1]


def saved(path):
    """Queries used at the last save of the one episode of a log."""
    headers = SaveStore(str(path)).folder.glob("*.json")
    return max((json.loads(header.read_text())["queries_used"] for header in headers), default=0)


def played_by(path):
    """Process that plays the one episode of a log; None if nobody does."""
    if not path.exists():
        return None
    try:
        with Log.open(path, read_only=True) as log:
            rows = log.episodes(EpisodeFilter(status="started"))
    except LogError:  # its tables are just being made
        return None
    return rows[0].pid if rows else None


class Ends(Watcher):
    """Keeps how episodes ended for whoever looks on."""

    def __init__(self):
        self.told = []

    def end(self, title, episode_id, status, error):
        self.told.append((episode_id, status))

    def skip(self, title, episode_id):
        self.told.append((episode_id, "skipped"))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_episode_that_is_resumed_to_its_end_is_told_as_played(
    break_game, scenario, always, workers
):
    log, row, _ = break_game(scenario(seeds=[0, 1], **{"victim.seed": 0}))
    watcher = Ends()
    one = scenario(seeds=[0, 1], **{"victim.seed": 0})
    rows = play(one, log=log, saving=always, watcher=watcher, workers=workers).episodes
    assert rows[0].id == row.id
    assert sorted(watcher.told) == sorted((one.id, "success") for one in rows)
    again = Ends()
    play(one, log=log, saving=always, watcher=again, workers=workers)
    assert sorted(again.told) == sorted((one.id, "skipped") for one in rows)
