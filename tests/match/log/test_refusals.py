"""Logs that cannot be used: the command line answers in one clear line, and nothing is lost."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import opening
from arena.log.store import Log

READERS = (
    ("episodes",), ("episodes", "--json"), ("episodes", "show", "ab"), ("replay", "ab"),
    ("replay", "ab", "--verify"), ("export", "episodes"), ("report", "ab"), ("compare", "a", "b"),
    ("log", "check"), ("log", "prune", "--strays"), ("log", "migrate"),
)  # fmt: skip
"""Commands that need a log that is there."""


@pytest.fixture
def scenario(tiny_file):
    return tiny_file()


def refusal(*words):
    """Call a command that fails; returns its one line."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 1, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "Traceback" not in line
    return line


def commands(scenario):
    return [*READERS, ("run", scenario, "--no-figure", "--quiet")]


def test_a_newer_log_is_refused_by_every_command_and_left_alone(made_up, scenario):
    made_up.play()
    path = Path(made_up.log.where)
    with made_up.log.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE log_version SET version_num = 'v9041'")
    made_up.log.close()
    before = path.read_bytes()
    for words in commands(scenario):
        assert "has log schema v9041, newer than this version's" in refusal(*words, "--log", path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_log_is_refused_by_every_command_and_left_alone(tmp_path, scenario):
    text, other = tmp_path / "notes.db", tmp_path / "other.db"
    text.write_text("seeds = [0, 1, 2]\n" * 100)
    with contextlib.closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE moz_bookmarks (id INTEGER)")
        connection.commit()
    for words in commands(scenario):
        assert "is not an SQLite database" in refusal(*words, "--log", text)
        assert "no arena log" in refusal(*words, "--log", other)
    assert text.read_text() == "seeds = [0, 1, 2]\n" * 100
    with contextlib.closing(sqlite3.connect(other)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master").fetchall()
    assert names == [("moz_bookmarks",)]


def test_a_log_that_is_not_there_is_not_made_by_a_command_that_reads(tmp_path):
    for words in READERS:
        assert "there is no log at" in refusal(*words, "--log", tmp_path / "gone.db")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_damaged_log_is_one_line_and_its_file_is_left_alone(made_up, scenario, share):
    for seed in range(30):
        made_up.play(seed=seed)
    path = Path(made_up.log.where)
    made_up.log.close()
    content = bytearray(path.read_bytes())
    first = int(len(content) * share) // 4096 * 4096
    content[first : first + 3 * 4096] = bytes(3 * 4096)
    path.write_bytes(content)
    done = CliRunner().invoke(app, ["log", "check", "--log", str(path)])
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    said = (done.stdout + done.stderr).strip().splitlines()
    assert all(line.startswith(("fault: ", "arena: ", "note: ", str(path))) for line in said), said
    assert path.read_bytes() == bytes(content)


def test_a_log_that_may_not_be_written_can_be_read_and_is_not_played_into(
    made_up, scenario, monkeypatch
):
    made_up.play()
    path = Path(made_up.log.where)
    made_up.log.close()
    monkeypatch.setattr("arena.log.engine.os.access", lambda *_: False)  # root may do anything
    line = refusal("run", scenario, "--no-figure", "--quiet", "--log", path)
    assert "may not be written; open it read-only, or use another --log" in line
    line = refusal("log", "prune", "--status", "success", "--yes", "--log", path)
    assert "nothing was written (the file or its folder may not be written)" in line
    for words in (("episodes",), ("episodes", "--json"), ("export", "episodes"), ("log", "check")):
        done = CliRunner().invoke(app, [*words, "--log", str(path)])
        assert "dfme" in done.stdout or "OK" in done.stdout, (words, done.output)


def test_a_log_that_another_holds_is_waited_for_and_then_told(made_up, scenario, monkeypatch):
    monkeypatch.setattr(opening, "BUSY_SECONDS", 0.1)
    monkeypatch.setattr(Log.open.__func__, "__kwdefaults__",
                        Log.open.__func__.__kwdefaults__ | {"busy_seconds": 0.1})  # fmt: skip
    id = made_up.play()
    path = Path(made_up.log.where)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        words = ("run", scenario, "--no-figure", "--quiet", "--log", path)
        assert "another process has held its lock for too long" in refusal(*words)
        words = ("log", "prune", id, "--yes", "--log", path)
        assert "another process has held its lock for too long" in refusal(*words)
        done = CliRunner().invoke(app, ["episodes", "--log", str(path)])  # readers never wait
        assert "dfme" in done.stdout
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert [row.id for row in made_up.log.episodes()] == [id]


# A disk that is full


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB, where one may be made."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    words = [mount or "", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if not mount or os.geteuid() or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_on_a_full_disk_a_run_ends_in_one_line_and_goes_on_when_there_is_room(
    small_disk, scenario, tmp_path
):
    log = small_disk / "arena.db"
    words = [sys.executable, "-m", "arena.cli", "run", str(scenario), "--quiet", "--no-figure"]
    words += ["--log", str(log), "--set", "seeds=[0,1,2,3,4,5]"]
    ballast = small_disk / "ballast"
    assert subprocess.run(words).returncode == 0  # it is large enough for these
    known = json.loads(CliRunner().invoke(app, ["episodes", "--json", "--log", str(log)]).stdout)
    disk = os.statvfs(small_disk)
    ballast.write_bytes(bytes(disk.f_bavail * disk.f_bsize - 250_000))
    words[-1] = "seeds=[0,1,2,3,4,5,6,7,8,9,10,11]"
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("arena: ")]
    assert "full; make room and write again, or use another --log" in line
    assert "Traceback" not in done.stderr
    ballast.unlink()
    checked = CliRunner().invoke(app, ["log", "check", "--log", str(log)])
    assert checked.exit_code == 0, checked.output
    told = json.loads(CliRunner().invoke(app, ["episodes", "--json", "--log", str(log)]).stdout)
    assert [row for row in told if row["seed"] < 6] == known
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
