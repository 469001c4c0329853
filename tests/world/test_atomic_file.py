"""Claims about files that appear complete or not at all."""

import sqlite3
import subprocess
import sys

import pytest

from envs.atomic_file import LEFT, whole_file


@pytest.mark.parametrize("flush", [False, True])
def test_readers_find_the_old_content_until_all_of_the_new_is_there(tmp_path, flush):
    path = tmp_path / "scores.json"
    path.write_text("old")
    with whole_file(path, flush=flush) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("fault", [OSError("full"), KeyboardInterrupt()])
def test_a_writer_that_fails_changes_nothing_and_leaves_nothing(tmp_path, fault):
    path = tmp_path / "scores.json"
    path.write_text("old")

    def fail():
        with whole_file(path) as part:
            part.write_text("ne")
            raise fault

    with pytest.raises(type(fault)):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_log_is_never_written_over(tmp_path):
    path = tmp_path / "arena.db"
    with sqlite3.connect(path) as database:
        database.execute("create table t (x)")
    held = path.read_bytes()
    with pytest.raises(FileExistsError, match="it is a log"), whole_file(path) as part:
        part.write_text("new")
    assert path.read_bytes() == held


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "scores.json"
    with whole_file(path) as first, whole_file(path) as second:
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"


def test_a_killed_writer_leaves_a_hidden_file_that_tells_whose_it_is(tmp_path):
    path = tmp_path / "scores.json"
    killed = (
        "import os, pathlib, signal; from envs.atomic_file import whole_file\n"
        f"with whole_file(pathlib.Path({str(path)!r})) as part:\n"
        "    part.write_text('ne'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", killed], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".scores.json.")
    assert left.name.endswith(LEFT)


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    path = tmp_path / "out"
    path.symlink_to("/dev/null")
    with whole_file(path) as part:
        part.write_text("new")
    assert path.is_symlink()
    assert path.read_text() == ""
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"), whole_file(folder) as part:
        part.write_text("new")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "out"]
