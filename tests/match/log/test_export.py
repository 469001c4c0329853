"""Claims about exported files: they hold what the log holds, and appear whole or not at all."""

import csv
import io
import json
import sys
from datetime import UTC
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from arena.log.episode_filter import EpisodeFilter
from arena.log.export import FORMATS, TABLES, export
from arena.log.outcome import OutcomeRow
from arena.log.rows import (
    AccountRow,
    CheckpointRow,
    EpisodeRecord,
    InferenceRow,
    RoundRow,
    RunRecord,
)
from arena.log.store import Log
from envs.errors import ArenaError, LogError, UnknownName


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    with Log.open(tmp_path_factory.mktemp("log") / "arena.db") as opened:
        run_id = opened.begin_run(RunRecord(command="test", scenario_name="x"))
        for seed in range(3):
            record = EpisodeRecord(
                scenario_name="x",
                plan_hash=str(seed),
                plan={"quoted": 'a, "b"\nc'},
                seed=seed,
                attacker="dfme",
                defender="dnf",
                victim="v",
                clone="c",
                data="digits",
                budget=100,
            )
            writer = opened.begin_episode(run_id, record)
            writer.set_up(num_classes=10, exit_names=[["after stage 1", "whole network"]])
            for index in range(4):
                writer.checkpoint(
                    CheckpointRow(
                        index=index,
                        queries_used=index * 10,
                        wall_seconds=0.5,
                        clone_accuracy=None if index == 0 else index / 8,
                        metrics={"loss": 0.25},
                    )
                )
            writer.round(
                RoundRow(
                    bucket=0,
                    first_round=0,
                    rounds=1,
                    attack_answered=4,
                    benign_answered=0,
                    queries_used=4,
                    attack_exits=((3, 1),),
                )
            )
            writer.inference(InferenceRow(attribute="family", inferred="vgg", correct=True))
            writer.event("note", "hello", n=1)
            for account in range(2):
                writer.account(AccountRow(account=account, client=7 - account, queries_used=2))
            writer.finish("success", OutcomeRow(clone_accuracy=seed / 4, full_macs=10**15))
        opened.event("moved", "to another disk")
        yield opened


def read(format: str, path: Path) -> list[dict]:
    if format == "parquet":
        return pq.read_table(path).to_pylist()
    text = path.read_text(encoding="utf-8")
    if format == "jsonl":
        return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text)))


COUNTS = {
    "episodes": 3, "checkpoints": 12, "rounds": 3, "inferences": 3, "events": 4, "accounts": 6,
    "artifacts": 0,
}  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("table", TABLES)
def test_every_table_goes_out_in_every_format(log: Log, tmp_path: Path, table: str, format: str):
    path = tmp_path / f"out.{format}"
    assert export(log, table, format, path) == COUNTS[table]
    assert len(read(format, path)) == COUNTS[table]
    assert not list(tmp_path.glob("*.part"))


def test_parquet_keeps_the_types(log: Log, tmp_path: Path):
    path = tmp_path / "out.parquet"
    export(log, "checkpoints", "parquet", path)
    rows = read("parquet", path)
    assert [row["clone_accuracy"] for row in rows[:4]] == [None, 0.125, 0.25, 0.375]
    assert {row["attacker"] for row in rows} == {"dfme"}
    assert json.loads(rows[0]["metrics"]) == {"loss": 0.25}
    export(log, "rounds", "parquet", path)
    assert read("parquet", path)[0]["attack_exits"] == [[3, 1]]
    export(log, "episodes", "parquet", path)
    row = read("parquet", path)[2]
    assert (row["seed"], row["clone_accuracy"], row["full_macs"]) == (2, 0.5, 10**15)
    assert json.loads(row["exit_names"]) == [["after stage 1", "whole network"]]
    assert row["started"] == log.episode(row["id"]).started
    assert row["started"].tzinfo is not None
    assert row["started"].utcoffset() == UTC.utcoffset(None)


def test_csv_quotes_what_needs_quotes(log: Log, tmp_path: Path):
    path = tmp_path / "out.csv"
    export(log, "episodes", "csv", path)
    rows = read("csv", path)
    assert [json.loads(row["plan"]) for row in rows] == [{"quoted": 'a, "b"\nc'}] * 3
    assert [float(row["clone_accuracy"]) for row in rows] == [0.0, 0.25, 0.5]
    export(log, "inferences", "csv", path)
    assert read("csv", path)[0]["correct"] == "true"


@pytest.mark.parametrize(
    ("told", "written"),
    [("=1+1", "'=1+1"), ("\x1b[2Jname", " [2Jname"), ("a\rb", "a\nb"), ("\x9b31m", " 31m")],
)
def test_csv_holds_neither_formulas_nor_what_steers_a_terminal(told, written, tmp_path):
    with Log.open(tmp_path / "arena.db") as log:
        run = log.begin_run(RunRecord(command="test", scenario_name="x"))
        log.begin_episode(run, EpisodeRecord(
            scenario_name=told, plan_hash="p", plan={}, seed=0, attacker="a", defender="d",
            victim="v", clone="c", data="d", budget=1)).finish("success")  # fmt: skip
        export(log, "episodes", "csv", tmp_path / "out.csv")
    assert [row["scenario_name"] for row in read("csv", tmp_path / "out.csv")] == [written]


def test_json_lines_keep_the_structure(log: Log, tmp_path: Path):
    path = tmp_path / "out.jsonl"
    export(log, "checkpoints", "jsonl", path)
    row = read("jsonl", path)[1]
    assert (row["seed"], row["index"], row["metrics"]) == (0, 1, {"loss": 0.25})


def test_rows_come_by_episode_and_then_in_order(log: Log, tmp_path: Path):
    path = tmp_path / "out.jsonl"
    export(log, "checkpoints", "jsonl", path)
    keys = [(row["seed"], row["index"]) for row in read("jsonl", path)]
    assert keys == [(seed, index) for seed in range(3) for index in range(4)]


def test_a_filter_and_its_limit_mean_episodes(log: Log, tmp_path: Path):
    path = tmp_path / "out.jsonl"
    assert export(log, "checkpoints", "jsonl", path, which=EpisodeFilter(seed=1)) == 4
    assert {row["seed"] for row in read("jsonl", path)} == {1}
    assert export(log, "checkpoints", "jsonl", path, which=EpisodeFilter(limit=2)) == 8
    assert {row["seed"] for row in read("jsonl", path)} == {1, 2}  # the newest two
    assert export(log, "events", "jsonl", path, which=EpisodeFilter()) == 3  # not the log's own


def test_a_stream_takes_text(log: Log):
    stream = io.StringIO()
    assert export(log, "episodes", "csv", stream) == 3
    assert stream.getvalue().startswith("id,run_id,scenario_name,")
    with pytest.raises(ArenaError, match="not into a stream"):
        export(log, "episodes", "parquet", stream)


def test_a_miss_suggests(log: Log, tmp_path: Path):
    with pytest.raises(UnknownName, match="did you mean 'episodes'"):
        export(log, "episode", "csv", tmp_path / "x")
    with pytest.raises(UnknownName, match="did you mean 'jsonl'"):
        export(log, "episodes", "json", tmp_path / "x")


def test_parquet_without_pyarrow_names_the_extra(log: Log, tmp_path: Path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ArenaError, match=r"fortress-arena\[analysis\]"):
        export(log, "episodes", "parquet", tmp_path / "x")


def test_a_file_that_cannot_be_written_is_one_line(log: Log, tmp_path: Path):
    with pytest.raises(LogError, match=r"cannot write .*No such file or directory"):
        export(log, "episodes", "csv", tmp_path / "nowhere" / "x.csv")


def test_a_failed_export_leaves_the_old_file(log: Log, tmp_path: Path, monkeypatch):
    path = tmp_path / "out.jsonl"
    path.write_text("old\n")

    def refuse(value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("arena.log.export.to_json", refuse)
    with pytest.raises(LogError, match=r"cannot write .*No space left"):
        export(log, "episodes", "jsonl", path)
    assert path.read_text() == "old\n"
    assert not list(tmp_path.glob(".*part"))
