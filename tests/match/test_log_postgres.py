"""Claims about PostgreSQL, run where ARENA_TEST_POSTGRES names an empty database to play in.

As in `ARENA_TEST_POSTGRES=postgresql://me@127.0.0.1/test pytest tests/match/test_log_postgres.py`.
The log's tables in that database are dropped.
"""

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from arena.log import schema
from arena.log.export import FORMATS, export
from arena.log.rows import (
    CheckpointRow,
    EpisodeFilter,
    EpisodeRecord,
    InferenceRow,
    OutcomeRow,
    RoundRow,
    RunRecord,
)
from arena.log.store import Log
from arena.log.tables import Base
from envs.errors import LogError

URL = os.environ.get("ARENA_TEST_POSTGRES", "")
pytestmark = pytest.mark.skipif(not URL, reason="ARENA_TEST_POSTGRES names no database")

RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="p", plan={"a": [1, None]}, seed=7, attacker="a", defender="d",
    victim="v", clone="c", data="digits",
)  # fmt: skip
ROUND = RoundRow(
    bucket=0, first_round=0, rounds=1, attack_answered=4, benign_answered=0, queries_used=4,
    attack_exits=(3, 1), attack_macs=3 * 10**16, attack_seconds=0.5, countermeasure={"s": 0.5},
)  # fmt: skip
CHECKPOINT = CheckpointRow(index=1, queries_used=4, wall_seconds=0.5, clone_accuracy=0.25)


@pytest.fixture(autouse=True)
def _empty():
    with Log.open(URL) as log, log.engine.begin() as connection:
        for view in ("exits", "curve", "scoreboard", "newest"):
            connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
        Base.metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE {schema.VERSION_TABLE}"))


def play(log: Log, name: str) -> str:
    run_id = log.begin_run(RunRecord(command="test", scenario_name=name))
    writer = log.begin_episode(run_id, replace(RECORD, plan_hash=name))
    writer.round(ROUND)
    writer.checkpoint(CHECKPOINT)
    writer.inference(InferenceRow(attribute="exits", inferred=[3], truth=4, correct=False))
    writer.event("note", name, n=1)
    writer.flush()
    writer.finish("success", OutcomeRow(clone_accuracy=0.5, full_macs=10**15))
    return writer.id


def test_what_goes_in_comes_out_of_postgres(tmp_path: Path):
    with Log.open(URL) as log:
        id = play(log, "one")
        row = log.episode(id[:6])
        assert (row.plan, row.seed, row.full_macs) == (RECORD.plan, 7, 10**15)
        assert row.started.utcoffset() is not None
        assert log.rounds(id) == [ROUND]
        assert log.checkpoints(id) == [CHECKPOINT]
        assert log.inferences(id)[0].inferred == [3]
        assert log.events(id)[0].data == {"n": 1}
        assert log.finished("one") == row
        brief = replace(row, plan={})
        assert log.episodes(EpisodeFilter(status="success"), brief=True) == [brief]
        for format in FORMATS:
            assert export(log, "rounds", format, tmp_path / format) == 1
    with Log.open(URL, read_only=True) as log:
        assert len(log.runs()) == 1
        with log.engine.connect() as connection, pytest.raises(Exception, match="read-only"):
            connection.execute(text("DELETE FROM run"))


def test_many_open_and_write_postgres_at_once():
    failures = []

    def write(number: int) -> None:
        try:
            with Log.open(URL) as log:
                for count in range(10):
                    play(log, f"{number}/{count}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with Log.open(URL) as log:
        assert len({row.plan_hash for row in log.episodes()}) == 40


def test_a_server_that_does_not_answer_is_one_line():
    with pytest.raises(LogError) as caught:
        Log.open("postgresql://me:secret@127.0.0.1:1/none")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
