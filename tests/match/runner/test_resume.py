"""A broken-off episode goes on from its save and ends as if nothing had happened."""

import json
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest
import torch

from agents.attackers.dfme import DFME
from agents.attackers.noise import Noise
from agents.base import Attacker
from arena.log.rows import EpisodeFilter
from arena.log.store import Log
from arena.recording.shards import rounds_on_tape
from arena.registry import players as catalog
from arena.runner import episode as episodes
from arena.runner import match
from arena.runner.match import play
from arena.runner.progress import Watcher
from arena.runner.saves.pickling import ChangedAttributes
from arena.runner.saves.schedule import Saving
from arena.runner.saves.store import SaveStore
from arena.scenario import load
from envs.defences.base import Defence
from envs.errors import LogError, PlayerError
from envs.game.digests import fold

TINY = """
version = 1
name = "tiny"
data = "digits"
seeds = [0]
checkpoints = 4
[victim]
use = "conv-small"
recipe = { epochs = 1 }
[clone]
use = "mlp-small"
[threat]
budget = 1000
[traffic]
benign = 0.25
[[attackers]]
use = "noise"
[[defenders]]
name = "undefended"
"""

ALWAYS = Saving(seconds=1e-9, share=1e9)
TIMES = {
    "id", "run_id", "pid", "host", "process_started", "started", "finished", "time", "wall_seconds",
    "harden_seconds", "attack_seconds", "benign_seconds", "attack_seconds_mean",
    "benign_seconds_mean", "path",
}  # fmt: skip


class Ear(Watcher):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.fixture
def scenario(tmp_path):
    def write(text=TINY, **overrides):
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return load(str(path), [f"{key}={value}" for key, value in overrides.items()])

    return write


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
        "artifacts": [file for file in log.artifacts(row.id) if file.kind != "queries"],
        "events": [event for event in log.events(row.id) if event.kind != "resumed"],
    }
    return {
        name: [{k: v for k, v in asdict(row).items() if k not in TIMES} for row in rows]
        for name, rows in parts.items()
    } | {"tape": [(len(one.images), fold(one.images), fold(one.posteriors)) for one in tape]}


@pytest.fixture
def break_off(monkeypatch):
    """Let the game end as Ctrl-C ends it, in the round that passes so many queries."""
    real = episodes.GameOracle

    def at(queries):
        class Breaking(real):
            __slots__ = ()

            def query(self, images):
                if self.threat.budget - self.remaining + len(images) > queries:
                    raise KeyboardInterrupt
                return super().query(images)

        monkeypatch.setattr(episodes, "GameOracle", Breaking if queries else real)

    return at


def resumed_and_straight(tmp_path, wanted, break_off, *points, saving=ALWAYS):
    """Play once through, and once broken off at every point; returns both accounts."""
    with Log.open(tmp_path / "straight.db") as log:
        (row,) = play(wanted, log=log, saving=replace(saving, seconds=0)).episodes
        straight = account(log, row)
    assert row.status == "success", row.error
    with Log.open(tmp_path / "resumed.db") as log:
        for point in points:
            break_off(point)
            assert play(wanted, log=log, saving=saving).interrupted
        break_off(None)
        (row,) = play(wanted, log=log, saving=saving).episodes
        assert len(log.episodes(EpisodeFilter())) == 1
        events = [event for event in log.events(row.id) if event.kind == "resumed"]
        assert len(events) == len(points)
        assert all("interrupted by the user" in event.message for event in events)
        assert not SaveStore(log.where).folder.exists()  # a played episode leaves no save
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
    "dfms-hl": "gan_epochs = 3\nclone_epochs = 2\ndiversity_epochs = 2",
    "campaign": PHASES,
}


QUICK = ("noise", "dfme", "campaign")


@pytest.mark.parametrize(
    "attacker", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
                 for name in CASES]
)  # fmt: skip
def test_an_episode_broken_off_thrice_ends_bit_for_bit_as_one_played_through(
    tmp_path, scenario, break_off, attacker
):
    use = f'use = "{attacker}"\n[attackers.params]\n{CASES[attacker]}'
    text = TINY.replace('use = "noise"', use)
    extra = {"threat.latency": "'virtual'"}
    if attacker in ("inversion", "relabelled", "knockoff"):
        extra["threat.pool"] = "{ use = 'digits', params = { split = 'validation' } }"
    resumed, straight = resumed_and_straight(
        tmp_path, scenario(text, **extra), break_off, 300, 500, 890
    )
    assert resumed == straight


def test_every_built_in_attacker_can_be_resumed_but_those_that_play_for_minutes():
    able = {name for name in catalog.attackers.builtin if catalog.attackers.create(name).resumable}
    short = {"exit-timing", "late-knockoff", "decoy-filter"}  # played within minutes
    assert set(catalog.attackers.builtin) - able == short
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
    with pytest.raises(PlayerError, match="afresh"):
        Plain().resume(None, None)


class Plain(Attacker):
    """No safe points."""

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        while True:
            kit.safe_point()
            oracle.query(torch.rand(50, *oracle.threat.image_shape, generator=kit.generator))


class Unwritable(Noise):
    def attack(self, oracle, kit):
        self.secret = lambda: None
        super().attack(oracle, kit)

    def resume(self, oracle, kit):
        super().resume(oracle, kit)


def with_player(player, tmp_path):
    path = tmp_path / "player.py"
    path.write_text(
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('their_resume_tests', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"{player} = module.{player}\n"
    )
    return TINY.replace('"noise"', f'"{path}:{player}"')


def test_an_attacker_without_safe_points_starts_afresh_and_the_match_says_so(
    tmp_path, scenario, break_off
):
    wanted, ear = scenario(with_player("Plain", tmp_path)), Ear()
    with Log.open(tmp_path / "a.db") as log:
        break_off(500)
        play(wanted, log=log, saving=ALWAYS)
        break_off(None)
        play(wanted, log=log, saving=ALWAYS, watcher=ear)
        assert sorted(row.status for row in log.episodes(EpisodeFilter())) == [
            "cancelled", "success",
        ]  # fmt: skip
    assert any("left no save; starting afresh" in line for line in ear.lines)


def test_a_player_that_cannot_be_written_is_played_all_the_same_and_that_is_noted_once(
    tmp_path, scenario
):
    ear = Ear()
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(
            scenario(with_player("Unwritable", tmp_path)), log=log, saving=ALWAYS, watcher=ear
        ).episodes
        kinds = [event.kind for event in log.events(row.id)]
    assert row.status == "success"
    assert kinds == ["not-saved"]
    assert [line for line in ear.lines if "cannot be saved" in line]


@pytest.fixture
def broken(tmp_path, scenario, break_off):
    """A log with one episode that was saved and broken off."""
    log = Log.open(tmp_path / "a.db")
    break_off(600)
    (row,) = play(scenario(), log=log, saving=ALWAYS).episodes
    break_off(None)
    yield log, row, SaveStore(log.where)
    log.close()


def test_one_save_lies_in_the_store_however_often_it_is_saved(broken):
    _, row, store = broken
    save = store.find(row.id)
    assert save.number > 5
    assert 500 < save.queries_used <= 600
    assert sorted(path.name for path in store.folder.iterdir()) == [
        f"{row.id}-{save.number}.pt", f"{row.id}.json",
    ]  # fmt: skip


@pytest.mark.parametrize("fault", ["damaged", "gone", "of other code"])
def test_a_save_that_cannot_be_read_is_told_and_the_episode_starts_afresh(broken, scenario, fault):
    log, row, store = broken
    path = store.folder / store.find(row.id).file
    if fault == "damaged":
        path.write_bytes(path.read_bytes()[:-100] + bytes(100))
    elif fault == "gone":
        path.unlink()
    else:
        save = store.find(row.id)
        store.put(row.id, save.plan, lambda file: torch.save({"attacker": 1}, file),
                  queries_used=600, mark=save.mark)  # fmt: skip
    ear = Ear()
    (again,) = play(scenario(), log=log, saving=ALWAYS, watcher=ear).episodes
    assert (again.status, again.id != row.id) == ("success", True)
    assert log.episode(row.id).status == "cancelled"
    assert any("cannot be resumed" in line and "afresh" in line for line in ear.lines)
    assert not store.folder.exists()


def test_another_version_starts_afresh_and_says_which(broken, scenario, monkeypatch):
    log, row, _ = broken
    ear = Ear()
    now = match.versions() | {"torch": "1.0"}
    monkeypatch.setattr(match, "versions", lambda: now)
    (again,) = play(scenario(), log=log, saving=ALWAYS, watcher=ear).episodes
    assert again.id != row.id
    assert any("torch" in line and "this is 1.0" in line for line in ear.lines)


def test_fresh_resumes_nothing(broken, scenario):
    log, row, _ = broken
    (again,) = play(scenario(), log=log, saving=ALWAYS, fresh=True).episodes
    assert again.id != row.id


def test_an_episode_that_somebody_plays_is_not_taken_from_them(broken):
    log, row, store = broken
    mark = store.find(row.id).mark
    assert log.reopen_episode(row.id, mark, seconds=0, queries_used=0) is not None
    assert log.reopen_episode(row.id, mark, seconds=0, queries_used=0) is None
    assert log.episode(row.id).status == "started"


LIVELY = """
[[defenders]]
name = "lively"
use = "detector"
defence = [{ use = "randp", params = { randomness = "fresh" } }, "undefended"]
"""


def test_defenders_tapes_and_chance_go_on_where_they_stood(tmp_path, scenario, break_off):
    text = TINY.replace('[[defenders]]\nname = "undefended"\n', LIVELY)
    wanted = scenario(text, record="'queries'", **{"threat.latency": "'virtual'"})
    resumed, straight = resumed_and_straight(tmp_path, wanted, break_off, 200, 700)
    assert sum(size for size, *_ in straight["tape"]) == 1000
    assert resumed == straight


class Counting(Defence):
    """Serves the uniform answer every third time, and remembers how often it was asked."""

    def __init__(self):
        self.asked, self.seen, self.level = 0, [], torch.zeros(())
        self.network = torch.nn.Linear(2, 2)


def test_what_changes_in_a_defence_is_saved_and_its_networks_are_not():
    defence = Counting()
    drift = ChangedAttributes(defence)
    assert set(drift.changed()) == {"seen"}  # a container may have changed inside
    defence.asked = 3
    defence.level += 1
    assert set(drift.changed()) == {"asked", "seen", "level"}
    other = Counting()
    ChangedAttributes(other).put_back(drift.changed())
    assert (other.asked, float(other.level)) == (3, 1.0)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_command_that_is_killed_at_three_random_points_ends_with_the_same_scores(
    tmp_path, scenario
):
    text = TINY.replace('use = "noise"', 'use = "dfme"').replace("budget = 1000", "budget = 40_000")
    scenario(text)
    command = [sys.executable, "-m", "arena.cli", "run", str(tmp_path / "tiny.toml"),
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
