"""A broken-off episode goes on from its save and ends as if nothing had happened."""

from dataclasses import asdict, replace

import pytest

from arena import episode as episodes
from arena.log.rows import EpisodeFilter
from arena.log.store import Log
from arena.match import play
from arena.saving.saver import Saving
from arena.saving.shelf import Shelf
from arena.scenario import load
from arena.watch import Watcher

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
    parts = {
        "episode": [row],
        "rounds": log.rounds(row.id),
        "checkpoints": log.checkpoints(row.id),
        "inferences": log.inferences(row.id),
        "artifacts": log.artifacts(row.id),
        "events": [event for event in log.events(row.id) if event.kind != "resumed"],
    }
    return {
        name: [{k: v for k, v in asdict(row).items() if k not in TIMES} for row in rows]
        for name, rows in parts.items()
    }


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
        assert not Shelf(log.where).folder.exists()  # a played episode leaves no save
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
    "confidence-filter": "batch = 16\nlook = 60\nconstant = 3.0",
    "latency-filter": "batch = 16\nlook = 60",
    "strategy-thief": "batch = 16\nlook = 300",
    "slowdown": "batch = 16\nsteps = 2",
    "knockoff": "budgets = [200, 600]\nepochs = 2\nrequest = 50\npolicy = 'adaptive'",
    "dfms-hl": "gan_epochs = 3\nclone_epochs = 2\ndiversity_epochs = 2",
    "campaign": PHASES,
}


@pytest.mark.parametrize("attacker", CASES)
def test_an_episode_broken_off_thrice_ends_bit_for_bit_as_one_played_through(
    tmp_path, scenario, break_off, attacker
):
    use = f'use = "{attacker}"\n[attackers.params]\n{CASES[attacker]}'
    text = TINY.replace('use = "noise"', use)
    extra = {"threat.latency": "'virtual'"}
    if attacker in ("inversion", "knockoff"):
        extra["threat.pool"] = "{ use = 'digits', params = { split = 'validation' } }"
    resumed, straight = resumed_and_straight(
        tmp_path, scenario(text, **extra), break_off, 300, 500, 890
    )
    assert resumed == straight
