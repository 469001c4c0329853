"""Paths that a log from elsewhere names lead nowhere but into the episode's own folder."""

import os
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import insert, update
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import artifacts
from arena.log.checking import check
from arena.log.merging import merge
from arena.log.pruning import prune, strays
from arena.log.store import Log
from arena.log.tables import ARTIFACT
from arena.recording.samples import asked_in, sample_path
from arena.recording.shards import require_tape
from arena.runner.saves.snapshots import Snapshot
from arena.runner.saves.store import SaveStore
from envs.errors import LogError
from tests.match.conftest import reseal

PRECIOUS = "precious.txt"


def episode_with_file(made_up, *, kind="queries", name="a.bin", content=b"tape", **options):
    id = made_up.play(**options)
    folder = artifacts.folder_of(made_up.log.where) / id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    row = artifacts.describe(made_up.log.where, folder / name, kind, meta={"shard": 0})
    with made_up.log.engine.begin() as connection:
        connection.execute(insert(ARTIFACT).values(episode_id=id, **asdict(row)))
        reseal(connection, id)
    return id


def rename(log, path):
    with log.engine.begin() as connection:
        connection.execute(update(ARTIFACT).values(path=path))


@pytest.fixture(
    params=["above", "absolute", "home", "link", "folder-link", "other-episode", "nul", "itself"]
)
def hostile(request, made_up, tmp_path):
    """A log of one episode whose artifact leads to a file beside the log; returns id and file."""
    id = episode_with_file(made_up)
    precious = tmp_path / PRECIOUS
    precious.write_text("mine")
    name = artifacts.folder_of(made_up.log.where).name
    folder = tmp_path / name / id
    if request.param == "link":
        (folder / "link").symlink_to(precious)
    elif request.param == "folder-link":
        (folder / "deep").symlink_to(tmp_path, target_is_directory=True)
    elif request.param == "other-episode":
        (tmp_path / name / "other").mkdir()
        precious = tmp_path / name / "other" / PRECIOUS
        precious.write_text("mine")
    rename(
        made_up.log,
        {
            "above": f"{name}/../{PRECIOUS}",
            "absolute": str(precious),
            "home": f"{name}/{id}/../../{PRECIOUS}",
            "link": f"{name}/{id}/link",
            "folder-link": f"{name}/{id}/deep/{PRECIOUS}",
            "other-episode": f"{name}/other/{PRECIOUS}",
            "nul": f"{name}/{id}/a\0b",
            "itself": f"{name}/{id}",
        }[request.param],
    )
    yield id, precious
    assert precious.read_text() == "mine"


def test_a_path_that_leads_elsewhere_is_refused_by_everything_that_reads_it(
    hostile, made_up, tmp_path
):
    id, _ = hostile
    faults = [one for one in check(made_up.log) if (one.kind, one.what) == ("fault", "files")]
    assert ["does not lie in" in one.message for one in faults] == [True]
    with pytest.raises(LogError, match="do not trust this log"):
        require_tape(made_up.log, id)
    with Log.open(tmp_path / "target.db") as target:
        with pytest.raises(LogError, match="do not trust this log") as refused:
            merge(target, made_up.log)
        assert "\n" not in str(refused.value)
        assert (target.episodes(), target.runs(), strays(target)) == ([], [], [])
    assert prune(made_up.log, [id]).files == 0


def test_a_log_that_was_renamed_with_its_folder_keeps_its_files(made_up, tmp_path):
    id = episode_with_file(made_up)
    made_up.log.close()
    there = Path(made_up.log.where)
    there.rename(tmp_path / "study.db")
    there.with_name(f"{there.name}.artifacts").rename(tmp_path / "study.db.artifacts")
    with Log.open(tmp_path / "study.db") as log:
        assert (check(log), strays(log)) == ([], [])
        assert prune(log, [id]).files == 1


def test_a_picture_that_leads_elsewhere_is_not_shown(hostile, made_up):
    id, _ = hostile
    with made_up.log.engine.begin() as connection:
        connection.execute(update(ARTIFACT).values(kind="sample-queries"))
    assert asked_in(made_up.log, id) == ()
    assert sample_path(made_up.log, id) is None


def test_a_merge_never_overwrites_and_removes_only_what_it_created(made_up, tmp_path):
    first = episode_with_file(made_up, seed=0)
    second = episode_with_file(made_up, seed=1)
    with Log.open(tmp_path / "target.db") as target:
        there = artifacts.folder_of(target.where) / first / "a.bin"
        there.parent.mkdir(parents=True)
        there.write_bytes(b"another")
        with pytest.raises(LogError, match="is there and is another file"):
            merge(target, made_up.log)
        assert there.read_bytes() == b"another"
        assert target.episodes() == []
        assert not (there.parents[1] / second).exists()
        there.write_bytes(b"tape")  # what a killed merge left is taken as it is
        assert merge(target, made_up.log).episodes == 2
        assert check(target) == []


def test_a_merge_does_not_write_through_a_link_in_its_own_folder(made_up, tmp_path):
    id = episode_with_file(made_up)
    (tmp_path / "elsewhere").mkdir()
    with Log.open(tmp_path / "target.db") as target:
        folder = artifacts.folder_of(target.where)
        folder.mkdir()
        (folder / id).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
        with pytest.raises(LogError, match="left alone"):
            merge(target, made_up.log)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_an_artifact_that_is_a_pipe_does_not_stop_a_merge_for_ever(made_up, tmp_path):
    id = episode_with_file(made_up)
    path = artifacts.folder_of(made_up.log.where) / id / "a.bin"
    path.unlink()
    os.mkfifo(path)
    with Log.open(tmp_path / "target.db") as target, pytest.raises(LogError, match="it is no file"):
        merge(target, made_up.log)


@pytest.mark.parametrize("id", ["../../x", "..", "a/b", "/tmp/x", "a\0b", "*", ""])
def test_an_id_that_is_no_name_is_refused(made_up, tmp_path, id):
    real = made_up.play()
    with made_up.log.engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
    with made_up.log.engine.connect() as connection:
        raw = connection.connection
        raw.execute("PRAGMA foreign_keys = OFF")
        raw.execute("UPDATE episode SET id = ? WHERE id = ?", (id, real))
        raw.commit()
        raw.execute("PRAGMA foreign_keys = ON")
    with Log.open(tmp_path / "target.db") as target, pytest.raises(LogError, match="no id of an"):
        merge(target, made_up.log)
    store = SaveStore(made_up.log.where)
    store.folder.mkdir()
    victim = tmp_path / "x.json"
    victim.write_text("mine")
    store.drop(id)
    assert store.find(id) is None
    assert victim.read_text() == "mine"


def test_a_save_is_read_from_its_own_file_alone(made_up):
    store = SaveStore(made_up.log.where)
    state = Snapshot(False, lambda file: file.write(b"state"))
    store.put("e1", "p", state, queries_used=1, mark={})
    header = store.folder / "e1.json"
    assert store.find("e1") is not None
    good = header.read_text()
    for bad in (
        good.replace("e1-1.pt", "../../x"),
        good.replace('"episode": "e1"', '"episode": "e2"'),
    ):
        assert bad != good
        header.write_text(bad)
        assert store.find("e1") is None


def test_the_command_refuses_in_one_line(hostile, made_up, tmp_path):
    result = CliRunner().invoke(
        app, ["log", "merge", made_up.log.where, "--log", str(tmp_path / "target.db")]
    )
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "do not trust this log" in result.stderr
