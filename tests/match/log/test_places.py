"""Where a log lies: it goes away, another takes its place, or its file system serves no log."""

import os

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import engine as engines
from arena.log import file_systems
from arena.log.rows import CheckpointRow, EpisodeRecord, RunRecord
from arena.log.store import Log
from envs.errors import LogError

RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="p", plan={}, seed=0, attacker="a", defender="d", victim="v",
    clone="c", data="digits", budget=100,
)  # fmt: skip


def remove(path):
    for one in path.parent.glob("arena.db*"):
        one.unlink()


def replace(path):
    other = path.with_name("other.db")
    Log.open(other).close()
    os.replace(other, path)


def rotate(path):
    path.rename(path.with_name("old.db"))


FATES = {remove: "it was removed", replace: "another file took its place", rotate: "it was removed"}


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.__name__)
def test_a_log_that_went_away_takes_nothing_more(tmp_path, fate):
    path = tmp_path / "arena.db"
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="", scenario_name="x"))
        writer = log.begin_episode(run, RECORD)
        writer.checkpoint(CheckpointRow(index=0, queries_used=1, wall_seconds=0.0))
        fate(path)
        for write in (writer.flush, lambda: writer.finish("success"), lambda: log.event("a", "b"),
                      lambda: log.begin_run(RunRecord(command="", scenario_name="x"))):  # fmt: skip
            with pytest.raises(LogError) as refusal:
                write()
            assert FATES[fate] in str(refusal.value)
            assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "lustre", "fuse.sshfs", "fuse.juicefs"])
def test_a_network_file_system_is_refused_with_a_way_out(tmp_path, monkeypatch, kind):
    path = tmp_path / "arena.db"
    Log.open(path).close()
    monkeypatch.setattr(file_systems, "_kind", lambda folder: kind)
    with pytest.raises(LogError, match=rf"network file system \({kind}\).*local disk.*PostgreSQL"):
        Log.open(path)
    for look in ({"read_only": True}, {"create": False}):  # as commands that read do
        with Log.open(path, **look) as log:
            assert log.episodes() == []
            with pytest.raises(LogError, match=rf"read-only.*({kind})"):
                log.begin_run(RunRecord(command="", scenario_name="x"))
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(LogError, match="there is no log"):
        Log.open(tmp_path / "none.db", create=False)


@pytest.mark.parametrize("kind", ["ext4", "overlay", "tmpfs", "9p", "virtiofs", "fuseblk", ""])
def test_a_local_file_system_is_written(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(file_systems, "_kind", lambda folder: kind)
    with Log.open(tmp_path / "arena.db") as log:
        assert not log.read_only


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path, monkeypatch):
    class Mount:
        def __init__(self, mountpoint, fstype):
            self.mountpoint, self.fstype = str(mountpoint), fstype

    inner = tmp_path / "shared"
    (inner / "deep").mkdir(parents=True)
    mounts = [Mount("/", "ext4"), Mount(inner, "nfs"), Mount(tmp_path, "xfs")]
    monkeypatch.setattr(file_systems.psutil, "disk_partitions", lambda all: mounts)
    found = [file_systems._kind(one) for one in (inner / "deep", inner, tmp_path, tmp_path.parent)]
    assert found == ["nfs", "nfs", "xfs", "ext4"]
    link = tmp_path / "link"
    link.symlink_to(inner / "deep")
    with pytest.raises(LogError, match="network file system"):
        Log.open(link / "arena.db")


def test_a_file_system_without_shared_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "_ask_for_wal", lambda engine: "delete")
    with pytest.raises(LogError, match="does not serve SQLite's write-ahead log"):
        Log.open(tmp_path / "arena.db")


@pytest.mark.parametrize(
    "where",
    ["/" + "x" * 5000, "y" * 300 + ".db", "y" * 247 + ".db", "a\0b.db", "sqlite:///" + "z" * 5000],
)
def test_what_is_no_path_to_the_system_is_refused_in_one_short_line(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["episodes"], ["log", "check"], ["log", "merge", where]):
        place = "b.db" if words[-1] == where else where
        done = CliRunner().invoke(app, [*words, "--log", place])
        assert done.exit_code == 1
        assert "no log can lie at" in done.output
        assert "--debug" not in done.output
        assert len(done.output) < 250


def test_a_log_with_a_relative_name_tells_that_the_working_folder_changed(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with Log.open("arena.db") as relative, Log.open(tmp_path / "whole.db") as whole:
        monkeypatch.chdir(tmp_path / "other")  # as a player's code may do
        whole.event("kind", "is written")
        with pytest.raises(LogError, match="name the log by its whole path") as caught:
            relative.event("kind", "is not")
        assert "removed" not in str(caught.value)
        monkeypatch.chdir(tmp_path)  # the arena sets it back at the episode's end
        relative.event("kind", "is written")
