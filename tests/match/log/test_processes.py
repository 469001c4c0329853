"""Claims about several processes: nobody's rows are lost, and the dead are told from the living."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from arena.log import heartbeat, processes
from arena.log.episode_filter import EpisodeFilter
from arena.log.processes import this_process
from arena.log.rows import CheckpointRow, EpisodeRecord, RunRecord
from arena.log.store import Log
from arena.log.tables import EPISODE
from arena.log.writer import EpisodeWriter
from envs.errors import LogError

PROCESSES, ROWS = 4, 5

COMMON = """
import sys
from arena.log import heartbeat
from arena.log.processes import this_process
from arena.log.outcome import OutcomeRow
from arena.log.rows import CheckpointRow, EpisodeRecord, RunRecord
from arena.log.store import Log

def record(name):
    return EpisodeRecord(
        scenario_name="x", plan_hash=name, plan={"name": name}, seed=0, attacker="a",
        defender="d", victim="v", clone="c", data="digits", budget=100,
    )

path, me, episodes = sys.argv[1:]
run = RunRecord(command="test", scenario_name=me)
"""

WRITE = (
    COMMON
    + f"""
sys.stdin.readline()  # all begin at once
with Log.open(path) as log:
    run_id = log.begin_run(run)
    for number in range(int(episodes)):
        writer = log.begin_episode(run_id, record(f"{{me}}/{{number}}"))
        for index in range({ROWS}):
            writer.checkpoint(CheckpointRow(index=index, queries_used=index, wall_seconds=0.0))
        if number % 10 == 0:
            writer.flush()
        writer.event("note", me)
        writer.finish("success", OutcomeRow(queries_used=number))
"""
)

HANG = (
    COMMON
    + """
log = Log.open(path)
writer = log.begin_episode(log.begin_run(run), record(me))
writer.checkpoint(CheckpointRow(index=0, queries_used=10, wall_seconds=0.0, clone_accuracy=0.5))
writer.flush()
writer.checkpoint(CheckpointRow(index=1, queries_used=20, wall_seconds=0.0))
print(writer.id, flush=True)
sys.stdin.readline()
writer.finish("success")
log.close()
"""
)


def start(code: str, path: Path, me: str, *, episodes: int = 1) -> subprocess.Popen:
    command = [sys.executable, "-W", "error", "-c", code, str(path), me, str(episodes)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def kill(child: subprocess.Popen) -> None:
    child.send_signal(signal.SIGKILL)
    child.communicate()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("episodes", [15, pytest.param(2500, marks=pytest.mark.slow)])
def test_four_writers_and_a_reader_lose_nothing(tmp_path: Path, episodes: int):
    path = tmp_path / "arena.db"
    names = [f"w{number}" for number in range(PROCESSES)]
    children = [start(WRITE, path, name, episodes=episodes) for name in names]
    for child in children:  # none of them finds a log: they make it together
        child.stdin.write("go\n")
        child.stdin.flush()
    seen = [0]
    while any(child.poll() is None for child in children):
        try:
            with Log.open(path, read_only=True) as log:
                rows = log.episodes(brief=True)
                for row in rows[:3]:
                    # A flush is one transaction: all of an episode's rows or none.
                    assert len(log.checkpoints(row.id)) in (0, ROWS)
                seen.append(len(rows))
        except LogError as error:
            if "no log" not in str(error):  # not made yet
                raise
        time.sleep(0.1)
    for child in children:
        _, errors = child.communicate()
        assert child.returncode == 0, errors
    assert seen == sorted(seen)

    with Log.open(path) as log:
        done = log.episodes(EpisodeFilter(status="success"))
        assert len(done) == PROCESSES * episodes
        assert {row.plan["name"] for row in done} == {
            f"{name}/{number}" for name in names for number in range(episodes)
        }
        assert sum(row.queries_used for row in done) == PROCESSES * sum(range(episodes))
        assert all(len(log.checkpoints(row.id)) == ROWS for row in done)
        assert all(len(log.events(row.id)) == 1 for row in done)
        assert len(log.runs()) == PROCESSES


def test_a_killed_episode_says_started_until_the_next_open_marks_it(tmp_path: Path):
    path = tmp_path / "arena.db"
    child = start(HANG, path, "killed")
    id = child.stdout.readline().strip()
    kill(child)

    with Log.open(path, read_only=True) as log:  # looks, and touches nothing
        assert log.episode(id).status == "started"
        assert log.episode(id).pid == child.pid
    with Log.open(path) as log:
        row = log.episode(id)
        assert (row.status, row.finished) == ("error", None)
        assert row.error == f"the process died (pid {child.pid}) before the episode ended"
        assert [event.kind for event in log.events(id)] == ["died"]
        assert [c.clone_accuracy for c in log.checkpoints(id)] == [0.5]  # what was flushed
        assert log.finished("killed") is None
    with Log.open(path) as log:
        assert len(log.events(id)) == 1  # marked once


def test_a_killed_child_counts_as_dead_before_its_parent_asks(tmp_path: Path):
    path = tmp_path / "arena.db"
    child = start(HANG, path, "zombie")
    id = child.stdout.readline().strip()
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the table
    assert psutil.pid_exists(child.pid)
    with Log.open(path) as log:
        assert log.episode(id).status == "error"
    child.communicate()


def test_a_living_writer_is_left_alone(tmp_path: Path):
    path = tmp_path / "arena.db"
    child = start(HANG, path, "alive")
    id = child.stdout.readline().strip()
    with Log.open(path) as log:
        assert log.episode(id).status == "started"
        _, errors = child.communicate("go on\n")
        assert child.returncode == 0, errors
        assert log.episode(id).status == "success"
        assert len(log.checkpoints(id)) == 2


RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="p", plan={}, seed=0, attacker="a", defender="d", victim="v",
    clone="c", data="digits", budget=100,
)  # fmt: skip


def elsewhere(minutes: float) -> dict:
    """Make the row's values of a process on another machine, silent for so many minutes."""
    moment = datetime.now(UTC) - timedelta(minutes=minutes)
    return {"host": "another-host", "pid": 2**30, "heartbeat": moment}


HERE = this_process().started

ROWS_OF = {
    "this very process": ({}, "started"),
    "another host that gave a sign of life": (lambda: elsewhere(9), "started"),
    "another host that was silent": (elsewhere(11), "error"),
    "no such process": ({"pid": 2**30}, "error"),
    "its number was given to another": ({"process_started": f"{HERE}0"}, "error"),
    # a container's numbers are not ours, even where its host has our name
    "another container": ({"process_started": "0:1", "pid": 2**30}, "started"),
    "another container, silent": ({**elsewhere(11), "host": socket.gethostname()}
                                  | {"process_started": "0:1"}, "error"),
    "ours, silent": ({"heartbeat": datetime.now(UTC) - timedelta(days=1)}, "started"),
}  # fmt: skip


def begun(log: Log, **changed: object) -> EpisodeWriter:
    run_id = log.begin_run(RunRecord(command="", scenario_name="x"))
    writer = log.begin_episode(run_id, RECORD)
    if changed:
        with log.engine.begin() as connection:
            connection.execute(EPISODE.update().values(changed))
    return writer


@pytest.mark.parametrize("who", ROWS_OF)
def test_a_writer_is_known_by_its_process_here_and_by_its_signs_of_life_elsewhere(
    tmp_path: Path, who: str, monkeypatch
):
    changed, status = ROWS_OF[who]
    path = tmp_path / "arena.db"
    with Log.open(path) as log:
        # the moment counts from when the test runs, which may be long after it was collected
        writer = begun(log, **(changed() if callable(changed) else changed))
        with Log.open(path) as again:
            monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 0.0)  # it was watched long enough
            again.mark_dead()
            assert again.episode(writer.id).status == status


def test_who_looks_silent_since_a_clock_jumped_is_watched_before_it_counts_as_dead(
    tmp_path: Path, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(processes.time, "monotonic", lambda: now[0])
    path = tmp_path / "arena.db"
    with Log.open(path) as log:
        writer = begun(log, **elsewhere(60))
        with Log.open(path) as again:  # which looks for the first time
            for seconds, beats, status in (
                (89, False, "started"),
                (89, True, "started"),  # by a clock that is as wrong as before
                (89, False, "started"),
                (1, False, "error"),
            ):
                now[0] += seconds
                if beats:
                    with log.engine.begin() as connection:
                        connection.execute(EPISODE.update().values(elsewhere(59)))
                again.mark_dead()
                assert again.episode(writer.id).status == status


@pytest.mark.parametrize(
    "step", [3600.0, *(pytest.param(one, marks=pytest.mark.slow) for one in (-3600.0, 2.5))]
)
def test_a_step_of_the_clock_kills_nobody(tmp_path: Path, step: float, monkeypatch):
    path = tmp_path / "arena.db"
    child = start(HANG, path, "alive")
    id = child.stdout.readline().strip()
    real = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: real(process) + step)
    with Log.open(path) as log:
        assert log.episode(id).status == "started"
    child.communicate("go on\n")


def test_a_silent_episode_of_another_host_says_why_it_was_closed(tmp_path: Path, monkeypatch):
    with Log.open(tmp_path / "arena.db") as log:
        writer = begun(log, **elsewhere(45))
        monkeypatch.setattr(heartbeat, "WATCH_SECONDS", 0.0)
        log.mark_dead()
        row = log.episode(writer.id)
        assert row.error == "no sign of life of its process (pid 1073741824 on another-host) for " \
                            "45 minutes"  # fmt: skip
        assert [event.kind for event in log.events(row.id)] == ["died"]


def test_signs_of_life_are_given_while_nothing_else_is_written(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    with Log.open(tmp_path / "arena.db") as log:
        old = datetime.now(UTC) - timedelta(days=1)
        writer = begun(log, heartbeat=old)
        deadline = time.monotonic() + 30
        while log.episode(writer.id).heartbeat == old and time.monotonic() < deadline:
            time.sleep(0.01)
        assert datetime.now(UTC) - log.episode(writer.id).heartbeat < timedelta(minutes=1)
        writer.finish("success")
        last = log.episode(writer.id).heartbeat
        time.sleep(1.2)  # SQLite's clock counts whole seconds
        assert log.episode(writer.id).heartbeat == last


def test_signs_of_life_end_with_the_writer(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(heartbeat, "BEAT_SECONDS", 0.01)
    with Log.open(tmp_path / "arena.db") as log:
        begun(log)  # and let go
        deadline = time.monotonic() + 30
        while _beating() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not _beating()


def _beating() -> bool:
    return any(thread.name == "arena-heartbeat" for thread in threading.enumerate())


def test_an_episode_is_closed_by_hand_unless_its_process_lives_here(tmp_path: Path):
    path = tmp_path / "arena.db"
    with Log.open(path) as log:
        writer = begun(log)
        with pytest.raises(LogError, match=rf"played by process {os.getpid()} of this machine"):
            log.close_episode(writer.id)
        with log.engine.begin() as connection:
            connection.execute(EPISODE.update().values(elsewhere(0)))
        log.close_episode(writer.id[:6])
        row = log.episode(writer.id)
        assert (row.status, row.error) == (
            "error", "closed by hand; its process was 1073741824 on another-host")  # fmt: skip
        with pytest.raises(LogError, match="has ended already, as error"):
            log.close_episode(writer.id)


def test_a_writer_that_was_taken_for_dead_has_the_last_word(tmp_path: Path):
    with Log.open(tmp_path / "arena.db") as log:
        writer = begun(log)
        with log.engine.begin() as connection:
            connection.execute(EPISODE.update().values(status="error", error="gone"))
        writer.checkpoint(CheckpointRow(index=0, queries_used=1, wall_seconds=0.0))
        writer.finish("success")
        row = log.episode(writer.id)
        assert (row.status, row.error) == ("success", None)


def test_a_writer_whose_episode_another_took_up_writes_no_more(tmp_path: Path):
    with Log.open(tmp_path / "arena.db") as log:
        writer = begun(log, **elsewhere(0))
        writer.checkpoint(CheckpointRow(index=0, queries_used=1, wall_seconds=0.0))
        for write in (writer.flush, writer.beat, lambda: writer.finish("success"),
                      lambda: writer.set_up(num_classes=2, exit_names=[["a"]])):  # fmt: skip
            with pytest.raises(LogError, match="taken up by another process"):
                write()
        row = log.episode(writer.id)
        assert (row.status, row.num_classes, log.checkpoints(row.id)) == ("started", None, [])
