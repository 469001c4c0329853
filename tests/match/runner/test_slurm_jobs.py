"""Episodes as jobs, through submitit's executor of this machine."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from arena.log.store import Log
from arena.runner.match import play
from arena.runner.workers.options import JOBS, WorkerOptions
from arena.runner.workers.slurm_jobs import FOLDER
from arena.scenario import load
from envs.errors import ArenaError, ScenarioError

HERE = "slurm:2,cluster=local"


@pytest.fixture
def submitit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # of the jobs' folder
    root = str(Path(__file__).parents[3])
    monkeypatch.setenv("PYTHONPATH", root)
    return pytest.importorskip("submitit")


def outcomes(rows):
    return [(row.seed, row.status, row.answer_digest, row.clone_accuracy) for row in rows]


@pytest.mark.usefixtures("submitit")
def test_jobs_play_what_one_process_plays_and_the_log_claims_each_episode(tmp_path, tiny_file):
    path = tiny_file(seeds=[0, 1], checkpoints=2)
    with Log.open(tmp_path / "here.db") as log:
        here = play(load(str(path)), log=log)
    with Log.open(tmp_path / "jobs.db") as log:
        jobs = play(load(str(path)), log=log, workers=HERE)
        again = play(load(str(path)), log=log, workers=HERE)
    assert outcomes(jobs.episodes) == outcomes(here.episodes)
    assert (jobs.skipped, again.skipped) == (0, 2)
    assert {row.status for row in jobs.episodes} == {"success"}
    assert len(list((tmp_path / FOLDER).glob("*_result.pkl"))) == 2


SLOW = """
import os, pathlib, time
from agents.attackers.noise import Noise


class Slow(Noise):
    '''Waits at its 20th safe point the first time, until somebody sends a signal.'''

    def __init__(self, *, mark: str = ""):
        super().__init__(batch=10)
        self.mark = mark

    def resume(self, oracle, kit):
        class Patient:
            def __getattr__(self, name):
                return getattr(kit, name)

            def safe_point(patient):
                kit.safe_point()
                mark = pathlib.Path(self.mark)
                if oracle.remaining == 300 and not mark.exists():
                    mark.write_text(str(os.getpid()))
                    for _ in range(600):
                        time.sleep(0.1)
                        kit.safe_point()

        super().resume(oracle, Patient())
"""


def signal_once(mark):
    """Tell the process whose number is written there, as Slurm does before the time limit."""
    for _ in range(600):
        if mark.exists() and (number := mark.read_text()):
            os.kill(int(number), signal.SIGUSR2)
            return
        time.sleep(0.1)


@pytest.mark.usefixtures("submitit")
def test_a_job_near_its_time_limit_is_saved_queued_again_and_ends_as_an_unbroken_one(
    tmp_path, scenario, watcher
):
    (tmp_path / "slow.py").write_text(SLOW)

    def one(mark):
        attackers = [{"use": f"{tmp_path}/slow.py:Slow", "params": {"mark": str(mark)}}]
        return scenario({"attackers": attackers, "seeds": [0], "checkpoints": 2,
                         "threat": {"budget": 500}, "traffic": {"benign": 0}})  # fmt: skip

    (tmp_path / "never").touch()
    with Log.open(tmp_path / "a.db") as log:
        (whole,) = play(one(tmp_path / "never"), log=log).episodes
    signalled = threading.Thread(target=signal_once, args=[tmp_path / "once"], daemon=True)
    signalled.start()
    with Log.open(tmp_path / "b.db") as log:
        (row,) = play(one(tmp_path / "once"), log=log, workers=HERE, watcher=watcher).episodes
        events = [event.kind for event in log.events(row.id)]
    signalled.join(1)
    assert not signalled.is_alive()
    assert events == ["resumed"]
    assert row.status == "success"
    assert (row.answer_digest, row.query_digest) == (whole.answer_digest, whole.query_digest)


@pytest.mark.usefixtures("submitit")
def test_a_file_of_one_machine_is_refused_as_the_log_of_a_cluster(tmp_path, tiny_file):
    with Log.open(tmp_path / "a.db") as log, pytest.raises(ScenarioError) as refused:
        play(load(str(tiny_file())), log=log, workers="slurm:2")
    told = str(refused.value)
    assert "expected a log that every machine of the cluster reaches" in told
    assert "--log postgresql://HOST/DATABASE; got" in told
    assert "\n" not in told


@pytest.mark.usefixtures("submitit")
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("slurm_partiton=day", "Unknown argument 'partiton' for executor 'slurm'"),
        ("timeout_min=long", 'Parameter "timeout_min" expected type'),
        ("cluster=mars", "AutoExecutor doesn't know any executor named mars"),
    ],
)
def test_a_parameter_that_submitit_does_not_take_is_told_in_one_line(
    tmp_path, tiny_file, more, told
):
    workers = f"slurm:2,{more}" if more.startswith("cluster") else f"{HERE},{more}"
    with Log.open(tmp_path / "a.db") as log, pytest.raises(ArenaError) as refused:
        play(load(str(tiny_file())), log=log, workers=workers)
    assert str(refused.value).startswith("--workers slurm: ")
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_submitit_one_line_tells_what_to_install(tmp_path, tiny_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with Log.open(tmp_path / "a.db") as log, pytest.raises(ArenaError) as refused:
        play(load(str(tiny_file())), log=log, workers="slurm")
    assert str(refused.value) == (
        "--workers slurm needs submitit: pip install 'fortress-arena[slurm]'"
    )


def test_jobs_and_their_parameters_are_read_from_one_word():
    found = WorkerOptions.of("slurm:8,timeout_min=240,slurm_partition=day")
    assert (found.jobs, found.apart) == (8, True)
    assert found.parameters == {"timeout_min": 240, "slurm_partition": "day"}
    assert WorkerOptions.of("slurm").jobs == JOBS
    assert WorkerOptions.of("slurm:mem_gb=4").parameters == {"mem_gb": 4}
    for word in ("slurm:0", "slurm:many", "slurm:2,", "slurm:2,timeout_min", "slurm:2,=3",
                 "slurm:-1", "slurmy"):  # fmt: skip
        if word == "slurm:2,":
            assert WorkerOptions.of(word).jobs == 2
            continue
        with pytest.raises(ScenarioError, match="expected"):
            WorkerOptions.of(word)
