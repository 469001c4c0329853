"""Claims about opening: what becomes a log, what is refused, and migrations match the models."""

import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, inspect
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import schema_version, views
from arena.log.checking import check
from arena.log.outcome import OutcomeRow
from arena.log.rows import EpisodeRecord, RunRecord
from arena.log.store import Log
from arena.log.tables import METADATA
from arena.log.views import VIEWS
from envs.errors import LogError

RUN = RunRecord(command="arena run x.toml", scenario_name="x")
RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="p", plan={"seed": 0}, seed=0, attacker="a", defender="d",
    victim="v", clone="c", data="digits", budget=100,
)  # fmt: skip


def shape(engine: Engine) -> dict[str, str]:
    """What SQLite holds of each table, index and view, without white space and quotes."""
    with engine.connect() as connection:
        written = connection.exec_driver_sql("SELECT name, coalesce(sql, '') FROM sqlite_master")
        return {name: "".join(sql.replace('"', "").split()) for name, sql in written}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "arena.db"


def test_a_new_log_has_the_tables_that_the_migrations_make(path: Path):
    migrated = create_engine("sqlite://")
    with Log.open(path) as log, migrated.begin() as connection:
        schema_version.upgrade(connection)
        options = {"version_table": schema_version.VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, METADATA) == []
        assert schema_version.version(connection) == schema_version.HEAD
        assert len(shape(log.engine)) > 10
        assert shape(log.engine) == shape(migrated)
        with log.engine.connect() as other:
            assert schema_version.version(other) == schema_version.HEAD
    migrated.dispose()


def test_a_database_that_holds_a_table_of_that_name_is_left_alone():
    engine = create_engine("sqlite://")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE episode (mine INTEGER)")
        with pytest.raises(OperationalError, match="already exists"):
            schema_version.create(connection)
    engine.dispose()


def test_the_head_in_the_code_is_the_newest_migration():
    config = Config()
    config.set_main_option("script_location", schema_version.MIGRATIONS)
    assert ScriptDirectory.from_config(config).get_heads() == [schema_version.HEAD]


def test_every_migration_can_be_taken_back(path: Path):
    from alembic import command

    with Log.open(path) as log, log.engine.begin() as connection:
        config = Config(attributes={"connection": connection})
        config.set_main_option("script_location", schema_version.MIGRATIONS)
        views.drop(connection)
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == [schema_version.VERSION_TABLE]


def test_a_creation_that_fails_leaves_no_half_a_log(path: Path, monkeypatch):
    def create_and_fail(connection):
        create(connection)
        raise KeyboardInterrupt

    create = schema_version.create
    monkeypatch.setattr(schema_version, "create", create_and_fail)
    with pytest.raises(KeyboardInterrupt):
        Log.open(path)
    monkeypatch.undo()
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    connection.close()
    with Log.open(path) as log:
        log.begin_run(RUN)


def test_a_log_keeps_its_settings(path: Path):
    with Log.open(path) as log, log.engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        ]
    assert settings == ["wal", 1, 30_000, 1]  # 1 is NORMAL


def test_an_old_log_opens_without_alembic(path: Path, monkeypatch):
    with Log.open(path) as log:
        log.begin_run(RUN)
    monkeypatch.setattr(schema_version, "upgrade", lambda *_: pytest.fail("migrated again"))
    with Log.open(path) as log:
        assert len(log.runs()) == 1


def test_a_newer_schema_is_refused_and_left_alone(path: Path):
    with Log.open(path) as log, log.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE log_version SET version_num = 'v9041'")
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(
            LogError,
            match=r"arena\.db has log schema v9041, newer than this version's "
            rf"{schema_version.HEAD}; "
            "upgrade fortress-arena or use another --log",
        ):
            Log.open(path, read_only=read_only)
    assert path.read_bytes() == before


@pytest.mark.parametrize("number", ["0001", "0002"])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_log_from_before_the_first_release_is_refused_and_left_alone(
    path: Path, number: str, read_only: bool
):
    with Log.open(path) as log, log.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE log_version SET version_num = '{number}'")
    before = path.read_bytes()
    with pytest.raises(
        LogError,
        match=rf"arena\.db is an arena log of layout {number}, from before the first release; this "
        "version does not read it: move it away and play its scenarios again, or use another",
    ) as caught:
        Log.open(path, read_only=read_only)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


HEAD = schema_version.HEAD
NEXT = f"v{int(HEAD[1:]) + 1:04}"
MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{HEAD}"


def upgrade():
    with op.batch_alter_table("episode") as episode:
        episode.alter_column("attacker", type_=sa.Text())
        episode.add_column(sa.Column("joules", sa.Double()))


def downgrade():
    op.drop_column("episode", "joules")
"""


@pytest.fixture
def next_version(path: Path, tmp_path: Path, monkeypatch):
    """A log of this version with an episode; what is opened from here on is of the next one."""
    with Log.open(path) as log:
        run = log.begin_run(RUN)
        log.begin_episode(run, RECORD).finish("success", OutcomeRow(clone_accuracy=0.5))
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(schema_version.__file__).parent / "migrations", scripts)
    (scripts / "versions" / f"{NEXT}_made_up.py").write_text(MIGRATION)
    monkeypatch.setattr(schema_version, "MIGRATIONS", str(scripts))
    monkeypatch.setattr(schema_version, "HEAD", NEXT)
    return path


def test_an_older_log_is_migrated_when_it_is_opened_and_keeps_its_rows_and_views(next_version):
    with Log.open(next_version) as log, log.engine.connect() as connection:
        assert schema_version.version(connection) == NEXT
        assert "joules" in [column["name"] for column in inspect(connection).get_columns("episode")]
        assert set(inspect(connection).get_view_names()) == set(VIEWS)
        board = connection.exec_driver_sql("SELECT attacker, clone_accuracy FROM scoreboard")
        assert board.fetchall() == [(RECORD.attacker, 0.5)]
        assert log.episodes()[0].plan == RECORD.plan


def test_an_older_log_is_not_migrated_when_it_is_opened_read_only(next_version):
    with pytest.raises(LogError, match=f"old log schema {HEAD}; open it once for writing"):
        Log.open(next_version, read_only=True)


def test_the_command_says_what_it_migrated_and_a_second_time_nothing(next_version):
    words = ["log", "migrate", "--log", str(next_version)]
    told = CliRunner().invoke(app, words).stdout
    assert told == f"{next_version}: from schema {HEAD} to {NEXT}\n"
    told = CliRunner().invoke(app, words).stdout
    assert told == f"{next_version} has schema {NEXT} already\n"


def without_accounts(raw):
    """Take a log back to schema v0004."""
    for view in reversed(VIEWS):
        raw.execute(f"DROP VIEW {view}")
    raw.execute("DROP TABLE account")
    for name in ("accounts_used", "attack_price", "clone_metrics"):
        raw.execute(f"ALTER TABLE episode DROP COLUMN {name}")
    raw.execute("UPDATE log_version SET version_num = 'v0004'")


def test_an_episode_from_before_accounts_keeps_its_digest(path: Path):
    with Log.open(path) as log:
        writer = log.begin_episode(log.begin_run(RUN), RECORD)
        writer.finish("success", OutcomeRow(clone_accuracy=0.5))
    with sqlite3.connect(path) as raw:
        without_accounts(raw)
    raw.close()
    with Log.open(path) as log:
        assert check(log) == []
        (row,) = log.episodes()
        assert (log.accounts(row.id), row.attack_price) == ([], None)


def test_exits_of_the_first_layout_are_given_to_the_defence_that_answered(path: Path):
    """Two defences: benign users got the first alone, the attacker the second, then both."""
    with Log.open(path) as log:
        run = log.begin_run(RUN)
        ids = {
            names: log.begin_episode(run, replace(RECORD, plan_hash=names)).id
            for names in ('[["a", "b"]]', '[["a"], ["a", "b"]]')
        }
    second = [{"defence": 1}, {"defence": 1}]
    mixed = [{"defence": 0}, {"defence": 1}]
    with sqlite3.connect(path) as raw:
        for names, id in ids.items():
            raw.execute("UPDATE episode SET exit_names = ? WHERE id = ?", (names, id))
            for bucket, attack in enumerate((second, mixed)):
                said = json.dumps({"attack": attack, "benign": [{"defence": 0}]})
                raw.execute(
                    "INSERT INTO round (episode_id, bucket, first_round, rounds, attack_answered, "
                    "benign_answered, queries_used, attack_exits, benign_exits, attack_macs, "
                    "benign_macs, benign_correct, countermeasure) "
                    "VALUES (?, ?, 0, 1, 5, 4, 5, '[3, 2]', '[4]', 0, 0, 0, ?)",
                    (id, bucket, said),
                )
        without_accounts(raw)
        raw.execute("ALTER TABLE episode DROP COLUMN content_digest")
        raw.execute("UPDATE log_version SET version_num = 'v0001'")
    raw.close()
    with Log.open(path) as log:
        one, several = ([(bucket.attack_exits, bucket.benign_exits) for bucket in log.rounds(id)]
                        for id in ids.values())  # fmt: skip
    assert one == [(((3, 2),), ((4,),))] * 2
    assert several == [(((), (3, 2)), ((4,),)), (None, ((4,),))]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, read_only: bool):
    path.write_text("seeds = [0, 1, 2]\n" * 100)
    with pytest.raises(LogError, match="not an SQLite database") as caught:
        Log.open(path, read_only=read_only)
    assert "\n" not in str(caught.value)
    assert path.read_text() == "seeds = [0, 1, 2]\n" * 100


def test_somebody_elses_database_is_refused_and_left_alone(path: Path):
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE moz_bookmarks (id INTEGER)")
    other.commit()
    other.close()
    with pytest.raises(LogError, match=r"no arena log .it has table 'moz_bookmarks'"):
        Log.open(path)
    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("moz_bookmarks",)]
    other.close()


def test_a_folder_is_refused(tmp_path: Path):
    with pytest.raises(LogError, match="is a folder; name a file in it"):
        Log.open(tmp_path)


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_a_missing_log_is_not_made_by_the_way(path: Path, options: dict):
    with pytest.raises(LogError, match=r"there is no log at .*; play with 'arena run' first"):
        Log.open(path, **options)
    assert not path.exists()


def test_an_empty_file_is_no_log_unless_one_may_be_made(path: Path):
    path.touch()
    with pytest.raises(LogError, match="holds no arena log"):
        Log.open(path, create=False)
    with pytest.raises(LogError, match="holds no log yet"):
        Log.open(path, read_only=True)
    assert path.read_bytes() == b""


def test_a_missing_folder_is_named(tmp_path: Path):
    with pytest.raises(LogError, match=r"there is no folder .*nowhere to hold a log"):
        Log.open(tmp_path / "nowhere" / "arena.db")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nosuchbase://host/db", "needs a driver"),
        ("://", "is no database URL"),
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str, message: str):
    with pytest.raises(LogError, match=message):
        Log.open(url)


def test_a_password_is_never_shown():
    with pytest.raises(LogError) as caught:
        Log.open("nosuchbase://me:secret@host/db")
    assert "secret" not in str(caught.value)


def test_neither_the_package_nor_its_errors_import_a_database():
    import subprocess
    import sys

    code = (
        "import sys, arena.log, arena.log.rows, envs.errors; "
        "print([m for m in ('sqlalchemy', 'alembic', 'pandas', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    code = (
        "import sys, arena.log.store, arena.log.export; "
        "print([m for m in ('alembic', 'pandas', 'pyarrow', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
