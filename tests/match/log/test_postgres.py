"""Claims about PostgreSQL: the log is the same log there.

A server of our own is started from Debian's package, where that is installed. Or
ARENA_TEST_POSTGRES names an empty database to play in (postgresql://me@127.0.0.1/test); the log's
tables in it are dropped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import inspect, text
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import schema_version
from arena.log.checking import check
from arena.log.engine import connect, resolve, transaction
from arena.log.episode_filter import EpisodeFilter
from arena.log.export import FORMATS, export
from arena.log.merging import merge
from arena.log.outcome import OutcomeRow
from arena.log.rows import CheckpointRow, EpisodeRecord, InferenceRow, RoundRow, RunRecord
from arena.log.store import Log
from arena.log.tables import METADATA
from envs.errors import LogError

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
GIVEN = os.environ.get("ARENA_TEST_POSTGRES", "")
DOCS = Path(__file__).parents[3] / "docs" / "log.md"

pytest.importorskip("psycopg", reason="the extra 'postgres' is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (GIVEN or PROGRAMS),
        reason="no PostgreSQL in /usr/lib/postgresql, and ARENA_TEST_POSTGRES names no database",
    ),
]

RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="p", plan={"a": [1, None]}, seed=7, attacker="a", defender="d",
    victim="v", clone="c", data="digits", budget=100,
)  # fmt: skip
ROUND = RoundRow(
    bucket=0, first_round=0, rounds=1, attack_answered=4, benign_answered=0, queries_used=4,
    attack_exits=((3, 1),), attack_macs=3 * 10**16, attack_seconds=0.5, countermeasure={"s": 0.5},
)  # fmt: skip
CHECKPOINT = CheckpointRow(index=1, queries_used=4, wall_seconds=0.5, clone_accuracy=0.25)


@pytest.fixture(scope="module")
def server():
    """The address of an empty database: the one that was named, or one of a server of our own."""
    if GIVEN:
        yield GIVEN
        return
    # PostgreSQL does not run as root, and its folder must be its own
    options = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="arena-pg-", dir="/tmp"))
    if options:
        shutil.chown(folder, **options)

    def call(program, *words):
        done = subprocess.run(
            [PROGRAMS / program, *map(str, words)], capture_output=True, text=True, cwd=folder,
            **options,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    data = folder / "data"
    call("initdb", "-D", data, "-U", "arena", "--auth=trust", "--no-sync")
    settings = f"-k {folder} -c listen_addresses='' -c fsync=off"
    call("pg_ctl", "-D", data, "-l", folder / "server.log", "-o", settings, "-w", "start")
    try:
        yield f"postgresql+psycopg://arena@/postgres?host={folder}"
    finally:
        call("pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(folder)


def drop_everything(url):
    engine = connect(resolve(url), read_only=False, busy_seconds=5)
    with engine.begin() as connection:
        for view in ("exits", "curve", "scoreboard", "newest"):
            connection.execute(text(f"DROP VIEW IF EXISTS {view}"))
        METADATA.drop_all(connection)
        connection.execute(text(f"DROP TABLE IF EXISTS {schema_version.VERSION_TABLE}"))
    engine.dispose()


@pytest.fixture(autouse=True)
def url(server):
    drop_everything(server)
    return server


def play(log: Log, name: str) -> str:
    run_id = log.begin_run(RunRecord(command="test", scenario_name=name))
    writer = log.begin_episode(run_id, replace(RECORD, plan_hash=name))
    writer.round(ROUND)
    writer.checkpoint(CHECKPOINT)
    writer.inference(InferenceRow(attribute="exits", inferred=[3], truth=4, correct=False))
    writer.event("note", name, n=1)
    writer.flush()
    writer.finish("success", OutcomeRow(clone_accuracy=0.5, full_macs=10**15, queries_used=4))
    return writer.id


def test_what_goes_in_comes_out_of_postgres(url, tmp_path: Path):
    with Log.open(url) as log:
        id = play(log, "one")
        row = log.episode(id[:6])
        assert (row.plan, row.seed, row.full_macs) == (RECORD.plan, 7, 10**15)
        assert row.started.utcoffset() is not None
        assert log.rounds(id) == [ROUND]
        assert log.checkpoints(id) == [CHECKPOINT]
        assert log.inferences(id)[0].inferred == [3]
        assert log.events(id)[0].data == {"n": 1}
        assert log.finished("one") == row
        brief = replace(row, plan={}, content_digest=None)
        assert log.episodes(EpisodeFilter(status="success"), brief=True) == [brief]
        for format in FORMATS:
            assert export(log, "rounds", format, tmp_path / format) == 1
    with Log.open(url, read_only=True) as log:
        assert len(log.runs()) == 1
        with log.engine.connect() as connection, pytest.raises(Exception, match="read-only"):
            connection.execute(text("DELETE FROM run"))


@pytest.mark.parametrize(
    ("path", "value", "found"),
    [
        ("threat.budget", "3_000", 1), ("threat.budget", "3e3", 1), ("threat.budget", "300", 0),
        ("threat.labels", "soft", 1), ("threat.hard", "true", 1), ("threat.pool", "none", 1),
        ("threat.rate", "0.00001", 1), ("a.0", "1", 1), ("a.1", "none", 1), ("a.0", "none", 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["postgres", "sqlite"])
def test_a_plan_is_found_by_a_setting_in_either_kind_of_log(
    url, tmp_path, kind, path, value, found
):
    threat = {"budget": 3000, "labels": "soft", "hard": True, "pool": None, "rate": 1e-5}
    with Log.open(url if kind == "postgres" else tmp_path / "arena.db") as log:
        run_id = log.begin_run(RunRecord(command="test", scenario_name="x"))
        log.begin_episode(run_id, replace(RECORD, plan={**RECORD.plan, "threat": threat}))
        assert len(log.episodes(EpisodeFilter(where=((path, value),)))) == found


def test_many_open_and_write_postgres_at_once(url):
    failures = []

    def write(number: int) -> None:
        try:
            with Log.open(url) as log:
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
    with Log.open(url) as log:
        assert len({row.plan_hash for row in log.episodes()}) == 40


def test_a_server_that_does_not_answer_is_one_line():
    with pytest.raises(LogError) as caught:
        Log.open("postgresql://me:secret@127.0.0.1:1/none")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


# The same log


def cli(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def play_tiny(tiny_file):
    return lambda log, *words: played(tiny_file(seeds=[0, 1]), log, *words)


def played(path, log, *words):
    command = [sys.executable, "-m", "arena.cli", "run", path, "--log", log, "--json", *words]
    done = subprocess.run([*command, "--quiet", "--no-figure"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["scenarios"][0]


def test_a_match_in_two_workers_is_played_into_postgres_verified_and_skipped(
    url, tmp_path, play_tiny
):
    played = play_tiny(url, "--workers", "2")["episodes"]
    here = play_tiny(tmp_path / "arena.db")["episodes"]
    facts = ("seed", "status", "answer_digest", "clone_accuracy", "plan_hash")
    assert [[row[name] for name in facts] for row in played] == [
        [row[name] for name in facts] for row in here
    ]
    again = play_tiny(url)
    assert (again["skipped"], [row["id"] for row in again["episodes"]]) == (
        2, [row["id"] for row in played]
    )  # fmt: skip
    told = cli("replay", played[0]["id"], "--verify", "--quiet", "--log", url).stdout
    assert "the same:" in told
    assert cli("replay", played[0]["id"], "--log", url).stdout.startswith("noise vs undefended")


def test_every_listing_and_command_of_the_log_works_on_postgres(url, tmp_path):
    with Log.open(url) as log:
        ids = [play(log, name) for name in ("one", "two")]
    assert len(json.loads(cli("episodes", "--json", "--log", url).stdout)) == 2
    listed = json.loads(cli("episodes", "--json", "--log", url).stdout)
    assert [row["plan"] for row in listed] == [RECORD.plan] * 2
    assert "exits" in cli("episodes", "show", ids[0], "--log", url).stdout
    assert cli("log", "check", "--log", url).stdout.endswith(": OK, 2 episodes\n")
    assert "already" in cli("log", "migrate", "--log", url).stdout
    assert "--yes would remove" in cli("log", "prune", ids[0], "--log", url).stdout
    assert "removed 1 episode," in cli("log", "prune", ids[0], "--yes", "--log", url).stdout
    cli("export", "rounds", "--out", tmp_path / "rounds.parquet", "--log", url)


def test_a_log_is_merged_into_postgres_and_back_without_a_change(url, tmp_path):
    with Log.open(tmp_path / "a.db") as origin, Log.open(url) as there:
        ids = [play(origin, name) for name in ("one", "two")]
        assert merge(there, origin).episodes == 2
        with Log.open(tmp_path / "b.db") as back:
            assert merge(back, there).episodes == 2
            for id in ids:
                assert back.episode(id) == there.episode(id) == origin.episode(id)
                assert back.rounds(id) == there.rounds(id) == origin.rounds(id)
                assert back.events(id) == there.events(id) == origin.events(id)
            assert [one.what for one in check(there)] == [one.what for one in check(origin)]


def test_the_first_schema_is_upgraded_on_postgres_and_keeps_its_rows(url):
    engine = connect(resolve(url), read_only=False, busy_seconds=5)
    with transaction(engine) as connection:
        schema_version.upgrade(connection, "v0001")
        connection.execute(text(
            "INSERT INTO run (id, created, command, scenario_name, scenario_text, host, python) "
            "VALUES ('r', now(), 'c', 'old', '', 'h', '3')"))  # fmt: skip
    engine.dispose()
    with pytest.raises(LogError, match="old log schema v0001; open it once for writing"):
        Log.open(url, read_only=True)
    with Log.open(url) as log:
        assert [run.scenario_name for run in log.runs()] == ["old"]
        views = set(inspect(log.engine).get_view_names())
        assert {"newest", "scoreboard", "curve", "exits"} <= views


def test_a_newer_schema_is_refused_on_postgres(url):
    with Log.open(url) as log, log.engine.begin() as connection:
        connection.execute(text("UPDATE log_version SET version_num = 'v9041'"))
    told = cli("episodes", "--log", url, code=1)
    assert "has log schema v9041, newer than this version's" in told.stderr
    assert len(told.stderr.splitlines()) == 1


def test_the_handbook_s_queries_run_on_postgres(url):
    with Log.open(url) as log:
        play(log, "one")
        with log.engine.connect() as connection:
            for statement in re.findall(r"```sql\n(.*?)```", DOCS.read_text(), flags=re.DOTALL):
                connection.execute(text(statement)).all()
            (board,) = connection.execute(text("SELECT seeds, clone_accuracy FROM scoreboard"))
            assert tuple(board) == (1, 0.5)
            exits = connection.execute(text("SELECT defence, exit, answered FROM exits"))
            assert sorted(map(tuple, exits)) == [(0, 0, 3), (0, 1, 1)]
