"""A log of every earlier schema opens with all that it held, as `tests/match/logs` keeps them.

Each file there is what one version of the schema left of the same small match, as SQL text. A new
migration brings the file of its own version along; `test_every_schema_has_its_stored_log` asks.
"""

import sqlite3
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect
from typer.testing import CliRunner

from arena.cli import app
from arena.log import schema
from arena.log.checking import check
from arena.log.store import Log
from arena.replay.timeline import timeline_steps
from arena.replay.verify import logged_plan, verify
from envs.errors import LogError

STORED = {path.stem.partition("-")[2]: path for path in Path(__file__).parent.glob("logs/*.sql")}
TABLES = ("run", "episode", "round", "checkpoint", "inference", "event", "artifact")


@pytest.fixture(params=sorted(STORED))
def stored(request, tmp_path):
    """The file of a log as that version left it, and the number of its schema."""
    path = tmp_path / "arena.db"
    connection = sqlite3.connect(path)
    connection.executescript(STORED[request.param].read_text())
    connection.execute("PRAGMA journal_mode = WAL")
    connection.close()
    return path, request.param


def contents(path):
    """Every row of every table, by column."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return {
            table: [dict(row) for row in connection.execute(f'SELECT * FROM "{table}"')]
            for table in TABLES
        }
    finally:
        connection.close()


def test_every_schema_has_its_stored_log():
    config = Config()
    config.set_main_option("script_location", "arena.log:migrations")
    numbers = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    assert set(STORED) == numbers


def test_a_stored_log_is_of_the_schema_it_is_named_after(stored):
    path, number = stored
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT version_num FROM log_version").fetchall() == [(number,)]
    connection.close()


def test_an_upgrade_keeps_every_value_and_gives_the_tables_of_today(stored, tmp_path):
    path, _ = stored
    before = contents(path)
    with Log.open(path) as log, Log.open(tmp_path / "fresh.db") as fresh:
        look, model = inspect(log.engine), inspect(fresh.engine)
        for table in TABLES:
            columns = {column["name"] for column in model.get_columns(table)}
            assert {column["name"] for column in look.get_columns(table)} == columns
        assert set(look.get_view_names()) == set(model.get_view_names())
    after = contents(path)
    for table in TABLES:
        assert len(after[table]) == len(before[table])
        for now, then in zip(after[table], before[table], strict=True):
            assert {name: now[name] for name in then} == then
    assert len(before["episode"]) == 4


def test_what_an_earlier_version_wrote_is_read_checked_and_shown(stored):
    path, _ = stored
    with Log.open(path) as log:
        rows = log.episodes()
        assert {(row.attacker, row.seed, row.status) for row in rows} == {
            (attacker, seed, "success") for attacker in ("noise", "exit-timing") for seed in (0, 1)
        }
        assert all(timeline_steps(log, row) for row in rows)
        # the pictures of its queries are not stored with it
        assert [one for one in check(log) if one.what != "files"] == []
    shown = CliRunner().invoke(app, ["episodes", "show", rows[0].id, "--log", str(path)])
    assert shown.exit_code == 0, shown.output


def test_what_an_earlier_version_played_counts_as_played(stored):
    path, _ = stored
    with Log.open(path) as log:
        for row in log.episodes():
            assert logged_plan(row).hash == row.plan_hash
            assert log.finished(row.plan_hash) == row


@pytest.mark.slow
def test_what_an_earlier_version_played_can_be_played_again(stored):
    path, _ = stored
    with Log.open(path) as log:
        (row,) = [row for row in log.episodes() if (row.attacker, row.seed) == ("noise", 0)]
        verdict = verify(log, row.id)
        assert verdict.buckets == len(log.rounds(row.id))
    assert verdict.same or verdict.causes  # on another machine sums may differ; then it says why


def test_the_command_says_what_it_did_and_a_second_time_nothing(stored):
    path, number = stored
    words = ["log", "migrate", "--log", str(path)]
    if number != schema.HEAD:
        with pytest.raises(LogError, match=f"old log schema {number}; open it once for writing"):
            Log.open(path, read_only=True)
        told = CliRunner().invoke(app, words).stdout
        assert told == f"{path}: from schema {number} to {schema.HEAD}\n"
    told = CliRunner().invoke(app, words).stdout
    assert told == f"{path} has schema {schema.HEAD} already\n"
