"""Claims about one log in one process: what goes in comes out, and failures lose nothing."""

import json
import math
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from arena.log.engine import default_url
from arena.log.outcome import OutcomeRow
from arena.log.rows import (
    ArtifactRow,
    CheckpointRow,
    EpisodeRecord,
    InferenceRow,
    RoundRow,
    RunRecord,
)
from arena.log.store import Log, episode_id
from envs.errors import LogError

RUN = RunRecord(command="arena run x.toml", scenario_name="x", scenario_text="version = 1")
RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="0" * 64, plan={"threat": {"budget": 100}, "name": "Zürich"},
    seed=7, attacker="dfme", attacker_params={"lr": 0.1}, defender="static",
    defender_params={"defence": "dnf"}, victim="resnet10", clone="resnet10", data="digits",
    budget=100, versions={"torch": "2.6"}, git_commit="abc", device="cpu",
)  # fmt: skip
OUTCOME = OutcomeRow(queries_used=96, clone_accuracy=0.5, full_macs=10**12)


def a_round(bucket: int) -> RoundRow:
    return RoundRow(
        bucket=bucket,
        first_round=bucket * 10,
        rounds=10,
        attack_answered=2560,
        benign_answered=640,
        queries_used=2560 * (bucket + 1),
        attack_exits=((2000, 500, 60),),
        benign_exits=((0, 40, 600),),
        attack_macs=3 * 10**16,
        benign_macs=10**15,
        attack_seconds=1.25,
        benign_seconds=0.5,
        benign_correct=600,
        query_digest="a" * 64,
        answer_digest="b" * 64,
        countermeasure={"strength": 0.5},
    )


def a_checkpoint(index: int) -> CheckpointRow:
    return CheckpointRow(
        index=index, queries_used=index * 10, wall_seconds=0.5, clone_accuracy=0.1 * index
    )


@pytest.fixture(scope="module")
def empty(tmp_path_factory) -> Path:
    """An empty log to copy, since migrating one for each test takes longer than the tests."""
    path = tmp_path_factory.mktemp("log") / "arena.db"
    Log.open(path).close()
    return path


@pytest.fixture
def log(tmp_path: Path, empty: Path):
    with Log.open(shutil.copy(empty, tmp_path / "arena.db")) as opened:
        yield opened


def stored(path: Path, query: str):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def test_what_goes_in_comes_out(log: Log):
    run_id = log.begin_run(RUN)
    writer = log.begin_episode(run_id, RECORD)
    rounds = [a_round(0), a_round(1)]
    inference = InferenceRow(
        attribute="exits", inferred=[1, 2], truth=3, correct=False, confidence=0.25
    )
    artifact = ArtifactRow(kind="clone", path="c.pt", sha256="c" * 64, bytes=12, meta={"a": None})
    for row in rounds:
        writer.round(row)
    writer.checkpoint(a_checkpoint(1))
    writer.inference(inference)
    writer.artifact(artifact)
    writer.event("alarm", "many queries", queries_used=50, score=2.5)
    writer.finish("success", OUTCOME)

    assert log.rounds(writer.id) == rounds
    assert log.checkpoints(writer.id) == [a_checkpoint(1)]
    assert log.inferences(writer.id) == [inference]
    assert log.artifacts(writer.id) == [artifact]
    (event,) = log.events(writer.id)
    assert (event.kind, event.message) == ("alarm", "many queries")
    assert (event.queries_used, event.data) == (50, {"score": 2.5})

    row = log.episode(writer.id)
    for name in RECORD.__dataclass_fields__:
        assert getattr(row, name) == getattr(RECORD, name)
    for name in OUTCOME.__dataclass_fields__:
        assert getattr(row, name) == getattr(OUTCOME, name)
    assert (row.run_id, row.status, row.error) == (run_id, "success", None)
    assert row.finished is not None
    assert row.wall_seconds is not None
    assert timedelta(0) <= row.finished - row.started < timedelta(minutes=1)
    assert 0 <= row.wall_seconds < 60


def test_a_run_remembers_its_scenario_and_machine(log: Log):
    before = datetime.now(UTC)
    log.begin_run(RUN)
    run_id = log.begin_run(replace(RUN, host="elsewhere", git_dirty=True))
    newest, oldest = log.runs()
    assert (newest.id, newest.host, newest.git_dirty) == (run_id, "elsewhere", True)
    assert newest.scenario_text == "version = 1"
    assert oldest.host
    assert oldest.python
    assert before <= oldest.created <= newest.created


def test_an_id_is_determined_by_run_and_plan(log: Log):
    run_id = log.begin_run(RUN)
    writer = log.begin_episode(run_id, RECORD)
    assert writer.id == episode_id(run_id, RECORD.plan_hash)
    assert len(writer.id) == 12
    assert set(writer.id) <= set("0123456789abcdef")
    with pytest.raises(LogError, match=f"already, as episode {writer.id}"):
        log.begin_episode(run_id, RECORD)
    assert log.begin_episode(log.begin_run(RUN), RECORD).id != writer.id


def test_an_episode_without_its_run_is_refused(log: Log):
    with pytest.raises(LogError, match="FOREIGN KEY"):
        log.begin_episode("nosuchrun", RECORD)


def test_rows_are_in_the_database_after_the_flush_and_not_before(log: Log):
    writer = log.begin_episode(log.begin_run(RUN), RECORD)
    writer.round(a_round(0))
    assert log.rounds(writer.id) == []
    assert writer.buffered == 1
    writer.flush()
    assert log.rounds(writer.id) == [a_round(0)]
    assert writer.buffered == 0
    writer.flush()
    assert len(log.rounds(writer.id)) == 1


def test_a_finished_episode_takes_no_more(log: Log):
    writer = log.begin_episode(log.begin_run(RUN), RECORD)
    writer.finish("cancelled")
    with pytest.raises(LogError, match="finished"):
        writer.round(a_round(0))
    with pytest.raises(LogError, match="finished already"):
        writer.finish("success")
    assert log.episode(writer.id).status == "cancelled"


def test_an_error_keeps_its_text_and_what_was_measured(log: Log):
    writer = log.begin_episode(log.begin_run(RUN), RECORD)
    writer.checkpoint(a_checkpoint(1))
    writer.finish("error", OutcomeRow(queries_used=10), error="PlayerError: clone is missing")
    row = log.episode(writer.id)
    assert (row.status, row.error) == ("error", "PlayerError: clone is missing")
    assert row.queries_used == 10
    assert len(log.checkpoints(writer.id)) == 1


def test_nan_is_stored_as_missing_and_json_stays_strict(log: Log, tmp_path: Path):
    writer = log.begin_episode(log.begin_run(RUN), replace(RECORD, plan={"x": [math.inf, 1]}))
    writer.checkpoint(
        replace(a_checkpoint(0), clone_accuracy=math.nan, metrics={"loss": math.nan, "n": 1})
    )
    writer.finish("success")
    (row,) = log.checkpoints(writer.id)
    assert row.clone_accuracy is None
    assert row.metrics == {"loss": None, "n": 1}
    ((text,),) = stored(tmp_path / "arena.db", "SELECT plan FROM episode")
    assert json.loads(text, parse_constant=pytest.fail) == {"x": [None, 1]}


def test_a_full_disk_loses_nothing(log: Log):
    writer = log.begin_episode(log.begin_run(RUN), RECORD)
    writer.round(a_round(0))
    writer.flush()

    def allow(pages: int) -> None:
        with log.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    allow(1)  # SQLite takes the present size as the least
    rows = [a_round(bucket) for bucket in range(1, 2000)]
    for row in rows:
        writer.round(row)
    with pytest.raises(LogError, match=r"arena\.db: the disk .* is full; make room") as caught:
        writer.flush()
    assert "\n" not in str(caught.value)
    with pytest.raises(LogError, match="is full"):
        writer.finish("success", OUTCOME)
    assert log.rounds(writer.id) == [a_round(0)]
    assert log.episode(writer.id).status == "started"

    allow(1_000_000)
    writer.finish("success", OUTCOME)
    assert log.rounds(writer.id) == [a_round(0), *rows]
    assert log.episode(writer.id).status == "success"


def test_a_locked_log_says_so_and_the_rows_wait(tmp_path: Path):
    path = tmp_path / "arena.db"
    with Log.open(path, busy_seconds=0.05) as log:
        writer = log.begin_episode(log.begin_run(RUN), RECORD)
        writer.round(a_round(0))
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(LogError, match="another process has held its lock"):
                writer.flush()
            assert log.rounds(writer.id) == []  # readers do not wait
        finally:
            other.execute("ROLLBACK")
            other.close()
        writer.flush()
        assert log.rounds(writer.id) == [a_round(0)]


def test_a_row_that_the_database_refuses_takes_none_of_its_flush_along(log: Log):
    writer = log.begin_episode(log.begin_run(RUN), RECORD)
    writer.checkpoint(a_checkpoint(0))
    writer.round(a_round(3))
    writer.round(a_round(3))
    with pytest.raises(LogError, match="refused a row: UNIQUE"):
        writer.flush()
    assert log.checkpoints(writer.id) == log.rounds(writer.id) == []
    assert writer.buffered == 3


def test_an_event_may_belong_to_no_episode(log: Log):
    log.event("note", "moved to another disk", by="me")
    (event,) = log.events()
    assert (event.kind, event.data) == ("note", {"by": "me"})


def test_read_only_reads_and_writes_nothing(tmp_path: Path):
    path = tmp_path / "an odd name%20#1?.db"
    with Log.open(path) as log:
        writer = log.begin_episode(log.begin_run(RUN), RECORD)
        writer.round(a_round(0))
        writer.flush()
    before = path.read_bytes()
    with Log.open(path, read_only=True) as log:
        assert log.rounds(writer.id) == [a_round(0)]
        with pytest.raises(LogError, match="is open read-only; nothing was written"):
            log.begin_run(RUN)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.glob("*.db")] == [path.name]


def test_a_log_in_a_folder_that_is_closed_to_us_can_be_read(tmp_path: Path, monkeypatch):
    path = tmp_path / "arena.db"
    with Log.open(path) as log:
        log.begin_run(RUN)
    monkeypatch.setattr("arena.log.engine.os.access", lambda *_: False)
    with Log.open(path, read_only=True) as log:
        assert len(log.runs()) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["arena.db"]  # no shared memory beside it
    with pytest.raises(LogError, match="may not be written; open it read-only"):
        Log.open(path)


def test_a_log_in_memory_lasts_as_long_as_it_is_open():
    with Log.open("sqlite://") as log:
        log.begin_run(RUN)
        assert len(log.runs()) == 1
    with Log.open("sqlite://") as log:
        assert log.runs() == []


def test_the_environment_names_the_default(tmp_path: Path, monkeypatch):
    monkeypatch.delenv("ARENA_LOG", raising=False)
    assert default_url() == "arena.db"
    path = tmp_path / "mine.db"
    monkeypatch.setenv("ARENA_LOG", f"sqlite:///{path}")
    with Log.open() as log:
        log.begin_run(RUN)
    assert stored(path, "SELECT scenario_name FROM run") == [("x",)]
