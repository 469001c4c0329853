"""Several processes play one match into one log."""

import signal
import time

import pytest

from arena.log.episode_filter import EpisodeFilter
from arena.log.store import Log
from arena.runner.match import play
from arena.runner.workers.options import WorkerOptions
from arena.scenario import load
from arena.system.devices import pick_devices
from envs.errors import ArenaError, LogError, ScenarioError
from tests.started import Started

PAIR = {"seeds": [0, 1], "checkpoints": 2, "threat": {"budget": 500}, "traffic": {"benign": 0}}


@pytest.fixture
def path(tiny_file):
    return tiny_file(**PAIR)


def test_two_workers_play_what_one_process_plays_and_in_the_same_order(tmp_path, path):
    outcomes = []
    for workers in (1, 2):
        with Log.open(tmp_path / f"{workers}.db") as log:
            rows = play(load(str(path)), log=log, workers=workers).episodes
        outcomes.append([(row.seed, row.status, row.answer_digest, row.clone_accuracy)
                         for row in rows])  # fmt: skip
    assert outcomes[0] == outcomes[1]


DEADLY = """
import os, pathlib, signal
from agents.attackers.noise import Noise


class Deadly(Noise):
    def __init__(self, *, times: int = 1, mark: str = ""):
        super().__init__(batch=50)
        self.times, self.mark = times, mark

    def resume(self, oracle, kit):
        class Trap:
            threat = oracle.threat
            remaining = property(lambda trap: oracle.remaining)

            def query(trap, images):
                marks = pathlib.Path(self.mark)
                if oracle.remaining == 250 and len(list(marks.glob("*"))) < self.times:
                    (marks / str(os.getpid())).touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return oracle.query(images)

        super().resume(Trap(), kit)
"""


@pytest.fixture
def deadly(tmp_path, scenario):
    """Two episodes of an attacker that kills its process so many times, and two of another."""

    def make(times):
        (tmp_path / "deadly.py").write_text(DEADLY)
        marks = tmp_path / "marks"
        marks.mkdir()
        params = {"times": times, "mark": str(marks)}
        killer = {"name": "deadly", "use": f"{tmp_path}/deadly.py:Deadly", "params": params}
        attackers = [killer, {"use": "noise"}]
        return scenario({**PAIR, "attackers": attackers, "seeds": [0], "victim": {"seed": 0}})

    return make


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_and_its_episode_is_resumed(
    tmp_path, deadly, watcher, always
):
    with Log.open(tmp_path / "a.db") as log:
        rows = play(deadly(1), log=log, workers=2, watcher=watcher, saving=always).episodes
        events = [event.kind for event in log.events(rows[0].id)]
    assert [(row.attacker, row.status) for row in rows] == [
        ("deadly", "success"), ("noise", "success"),
    ]  # fmt: skip
    assert events == ["resumed"]
    assert any("SIGKILL" in line and "again" in line for line in watcher.lines)


@pytest.mark.slow
def test_a_killed_worker_loses_nothing_of_a_fresh_run_either(tmp_path, deadly):
    one = deadly(1)
    with Log.open(tmp_path / "a.db") as log:
        for fresh in (False, True):
            rows = play(one, log=log, workers=2, fresh=fresh).episodes
            assert [row.status for row in rows] == ["success", "success"], rows[0].error
            for mark in (tmp_path / "marks").iterdir():
                mark.unlink()
        assert len(log.episodes()) == 4


@pytest.mark.slow
def test_an_episode_that_kills_two_workers_is_given_up_and_the_others_are_played(tmp_path, deadly):
    with Log.open(tmp_path / "a.db") as log:
        result = play(deadly(9), log=log, workers=2)
    assert [(row.attacker, row.status) for row in result.episodes] == [
        ("deadly", "error"), ("noise", "success"),
    ]  # fmt: skip
    assert "died" in result.episodes[0].error
    assert result.failed


def test_workers_and_devices_that_cannot_be_are_refused_in_a_line():
    for workers in ("two", "0", "-1", "rays"):
        with pytest.raises(ScenarioError):
            WorkerOptions.of(workers)
    assert WorkerOptions.of("ray:10.0.0.1:6379").cluster == "10.0.0.1:6379"
    assert WorkerOptions.of("ray").cluster == ""
    with pytest.raises(ArenaError, match="CUDA devices found"):
        pick_devices("cpu,cuda:7", workers=2)


def test_a_device_is_shared_out_among_workers(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert [str(device) for device in pick_devices("cuda", workers=2)] == [
        "cuda:0", "cuda:1", "cuda:2",
    ]  # fmt: skip
    assert [str(device) for device in pick_devices("cuda", workers=1)] == ["cuda"]
    assert [str(device) for device in pick_devices("cuda:2, cuda:0", workers=2)] == [
        "cuda:2", "cuda:0",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_ray_cluster_plays_what_one_process_plays(tmp_path, path):
    pytest.importorskip("ray", reason="Ray is not installed (extra 'ray')")
    outcomes = []
    for workers in (1, "ray"):
        with Log.open(tmp_path / f"{workers}.db") as log:
            rows = play(load(str(path)), log=log, workers=workers).episodes
        outcomes.append([(row.seed, row.status, row.answer_digest, row.clone_accuracy)
                         for row in rows])  # fmt: skip
    assert outcomes[0] == outcomes[1]
    assert [status for _, status, *_ in outcomes[0]] == ["success"] * 2


def test_an_interrupt_stops_all_workers_and_their_episodes_end_as_cancelled(tmp_path, path):
    log_path = tmp_path / "a.db"
    options = ["--log", log_path, "--set", "threat.budget=500_000", "--no-figure"]
    with Started("run", path, "--workers", 2, *options) as process:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and _with_rounds(log_path) < 2:
            time.sleep(0.5)
        process.signal(signal.SIGINT)
        _, said = process.ended(100)
        assert process.returncode == 130, said
    assert "interrupted" in said
    with Log.open(log_path) as log:
        assert [row.status for row in log.episodes(EpisodeFilter())] == ["cancelled"] * 2


def _with_rounds(path):
    """Count the episodes that have written rounds."""
    if not path.exists():
        return 0
    try:
        with Log.open(path, read_only=True) as log:
            return sum(bool(log.rounds(row.id)) for row in log.episodes(EpisodeFilter()))
    except LogError:  # its tables are just being made
        return 0
