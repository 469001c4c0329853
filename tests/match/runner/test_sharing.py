"""Processes that play one scenario into one log share the work: no plan is played twice."""

import os
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from arena.log import heartbeat
from arena.log.episode_filter import EpisodeFilter
from arena.log.outcome import OutcomeRow
from arena.log.rows import RunRecord
from arena.log.store import Log
from arena.log.tables import EPISODE
from arena.runner import sharing
from arena.runner.match import play
from arena.runner.resume import episode_record
from arena.runner.run_record import run_record
from arena.system.devices import pick_device
from envs.errors import LogError
from tests.started import Started


@pytest.fixture
def log(tmp_path):
    with Log.open(tmp_path / "arena.db") as log:
        yield log


def taken_elsewhere(log, plan, **changed):
    """Begin a plan as a process of another machine would."""
    record = run_record("test", pick_device("cpu"), scenario_name="tiny")
    writer = log.begin_episode(log.begin_run(record), episode_record(plan, record))
    values = {"host": "another-host", **changed}
    with log.engine.begin() as connection:
        mine = EPISODE.c.id == writer.id
        connection.execute(EPISODE.update().where(mine).values(values))
    return writer.id


def command(path, log, *words):
    return Started("run", path, "--quiet", "--no-figure", "--log", log, *words)


@pytest.mark.parametrize("workers", [("1", "1"), pytest.param(("2", "1"), marks=pytest.mark.slow)])
def test_two_runs_of_one_scenario_play_every_episode_once(tiny_file, tmp_path, workers):
    path, log = tiny_file(seeds=list(range(4)), victim={"seed": 0}), tmp_path / "arena.db"
    with (
        command(path, log, "--workers", workers[0]) as one,
        command(path, log, "--workers", workers[1]) as other,
    ):
        told = [run.ended() for run in (one, other)]
        assert [run.returncode for run in (one, other)] == [0, 0], told
    with Log.open(log) as store:
        rows = store.episodes()
        assert Counter(row.seed for row in rows) == dict.fromkeys(range(4), 1)
        assert {row.status for row in rows} == {"success"}
        assert len(store.runs()) == 2


@pytest.mark.slow
def test_what_a_killed_run_had_claimed_the_other_plays(tiny_file, tmp_path):
    path = tiny_file(seeds=[0, 1], victim={"seed": 0}, threat={"budget": 6_000})
    log = tmp_path / "arena.db"
    deadline = time.monotonic() + 120
    with command(path, log) as one:
        while not _begun(log) and time.monotonic() < deadline:
            time.sleep(0.3)
        with command(path, log) as other:
            while len(_begun(log)) < 2 and time.monotonic() < deadline:  # each has claimed one
                time.sleep(0.3)
            one.kill()
            _, errors = other.ended()
            assert other.returncode == 0, errors
    with Log.open(log) as store:
        won = store.episodes(EpisodeFilter(status="success"))
        assert sorted(row.seed for row in won) == [0, 1]
        assert len({row.run_id for row in store.episodes()}) == 2


def _begun(log):
    if not log.exists():
        return []
    try:
        with Log.open(log, read_only=True) as store:
            return store.episodes(brief=True)
    except Exception:  # its tables are being made
        return []


def test_a_run_waits_for_what_another_plays_and_counts_it(log, scenario, watcher, monkeypatch):
    one = scenario(seeds=[0, 1])
    id = taken_elsewhere(log, one.plans()[0])
    looks = []

    def look(seconds):
        looks.append(len(log.episodes(EpisodeFilter(status="success"))))
        if len(looks) == 2:
            _end(log, id, status="success")

    monkeypatch.setattr(sharing.time, "sleep", look)
    result = play(one, log=log, watcher=watcher)
    assert looks == [1, 1]  # its own was played first
    assert [row.status for row in result.episodes] == ["success", "success"]
    assert result.episodes[0].id == id
    assert len(log.episodes()) == 2
    (line,) = [line for line in watcher.lines if "is played by" in line]
    assert f"{id} is played by process {os.getpid()} on another-host" in line


def _end(log, id, **values):
    with log.engine.begin() as connection:
        mine = EPISODE.c.id == id
        values.setdefault("finished", datetime.now(UTC))
        connection.execute(EPISODE.update().where(mine).values(values))


ENDS = {
    "failed by its player": ({"status": "error", "error": "bad"}, False),
    "cancelled": ({"status": "cancelled"}, True),
    "died": ({"status": "error", "finished": None}, True),
    "silent": ({"heartbeat": datetime.now(UTC) - timedelta(hours=1), "finished": None}, True),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_others_broke_off_is_played_here_and_what_failed_is_not(
    log, scenario, watcher, monkeypatch, end
):
    values, again = ENDS[end]
    one = scenario(seeds=[0])
    id = taken_elsewhere(log, one.plans()[0])
    monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(sharing.time, "sleep", lambda seconds: _end(log, id, **values))
    result = play(one, log=log, watcher=watcher)
    (row,) = result.episodes
    assert (row.id != id, row.status) == (again, "success" if again else "error")
    assert len(log.episodes()) == 1 + again


def test_what_another_machine_left_behind_is_watched_and_then_played_here(
    log, scenario, watcher, monkeypatch
):
    one = scenario(seeds=[0])
    silent = {"heartbeat": datetime.now(UTC) - timedelta(hours=1)}
    id = taken_elsewhere(log, one.plans()[0], **silent)
    looks = []

    def look(seconds):
        looks.append(log.episode(id).status)
        if len(looks) == 2:
            monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 0.0)

    monkeypatch.setattr(sharing.time, "sleep", look)
    (row,) = play(one, log=log, watcher=watcher).episodes
    assert looks == ["started", "started"]
    assert (row.id != id, row.status) == (True, "success")
    assert log.episode(id).status == "error"
    (line,) = [line for line in watcher.lines if "is played by" in line]
    assert "gave no sign of life for 60 minutes; it is watched for 90 seconds more" in line


def test_fresh_waits_for_nobody(log, scenario, watcher):
    one = scenario(seeds=[0])
    id = taken_elsewhere(log, one.plans()[0])
    (row,) = play(one, log=log, watcher=watcher, fresh=True).episodes
    assert (row.id != id, row.status) == (True, "success")


def test_ctrl_c_ends_the_waiting(log, scenario, watcher, monkeypatch):
    one = scenario(seeds=[0])
    taken_elsewhere(log, one.plans()[0])

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(sharing.time, "sleep", interrupt)
    result = play(one, log=log, watcher=watcher)
    assert result.interrupted
    assert result.left == 1


def test_an_earlier_failure_is_tried_again_by_a_later_run(log, scenario):
    (plan,) = scenario(seeds=[0]).plans()
    record = run_record("test", pick_device("cpu"), scenario_name="tiny")
    writer = log.begin_episode(log.begin_run(record), episode_record(plan, record))
    writer.finish("error", None, error="bad")
    later = log.begin_run(RunRecord(command="", scenario_name="tiny"))
    assert not isinstance(log.claim_episode(later, episode_record(plan, record)), str)


def test_an_episode_whose_worker_died_begins_again_in_a_fresh_run_too(log, scenario):
    (plan,) = scenario(seeds=[0]).plans()
    record = run_record("test", pick_device("cpu"), scenario_name="tiny")
    earlier = log.begin_episode(log.begin_run(record), episode_record(plan, record))
    earlier.finish("success", OutcomeRow())
    fresh = log.begin_run(record)
    first = log.begin_episode(fresh, episode_record(plan, record))
    with pytest.raises(LogError, match="has played this plan already"):  # it is being played
        log.begin_episode(fresh, episode_record(plan, record))
    _end(log, first.id, status="error", finished=None)
    assert log.begin_episode(fresh, episode_record(plan, record)).id == first.id
    assert [row.status for row in log.episodes()].count("started") == 1
