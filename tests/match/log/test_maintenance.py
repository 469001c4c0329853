"""Looking after a log: nothing is lost but what was asked to go, and damage is found."""

import json
import re
import sqlite3
from dataclasses import asdict
from pathlib import Path

import pytest
from sqlalchemy import insert, inspect, text
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import artifacts
from arena.log.checking import check
from arena.log.merging import merge
from arena.log.pruning import prune, strays, superseded
from arena.log.store import Log
from arena.log.tables import ARTIFACT
from envs.errors import LogError
from tests.match.conftest import reseal

DOCS = Path(__file__).parents[3] / "docs" / "log.md"
VIEWS = ("newest", "scoreboard", "curve", "exits")


@pytest.fixture
def cli(made_up):
    def call(*words, code=0):
        made = [str(word) for word in words]
        result = CliRunner().invoke(app, ["log", *made, "--log", made_up.log.where])
        assert result.exit_code == code, result.output
        return result

    return call


def everything(log):
    """All that a log says, without the numbers of rows."""
    return {
        row.id: [
            asdict(part)
            for part in (
                row, *log.rounds(row.id), *log.checkpoints(row.id), *log.inferences(row.id),
                *log.events(row.id), *log.artifacts(row.id),
            )
        ]
        for row in log.episodes()
    }  # fmt: skip


def add_file(log, id, name="a.bin", content=b"tape"):
    folder = artifacts.folder_of(log.where) / id
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    row = artifacts.describe(log.where, folder / name, "tape", meta={"n": 1})
    with log.engine.begin() as connection:
        connection.execute(insert(ARTIFACT).values(episode_id=id, **asdict(row)))
        reseal(connection, id)
    return folder / name


def full(made_up, attacker="dfme", **options):
    return made_up.play(
        attacker,
        inferences=[{"attribute": "family", "inferred": "vgg", "truth": "vgg", "correct": True}],
        events=[("note", "half way", {"share": 0.5})],
        curve=((250, 0.5), (500, 0.8), (1000, 1.0)),
        answer_digest=None,
        **options,
    )


# Checking


def test_a_sound_log_has_no_findings(made_up, cli):
    id = full(made_up)
    add_file(made_up.log, id)
    assert check(made_up.log) == []
    assert cli("check").stdout == f"{made_up.log.where}: OK, 1 episode\n"


@pytest.mark.parametrize(
    ("statement", "what", "line"),
    [
        ("UPDATE round SET first_round = 7 WHERE bucket = 1", "accounts", "bucket 1 does not"),
        ("UPDATE round SET attack_exits = '[[1]]' WHERE bucket = 1", "accounts", "exits of bucket"),
        ("UPDATE round SET benign_exits = '[[1]]' WHERE bucket = 1", "accounts", "exits of bucket"),
        ("DELETE FROM round WHERE bucket = 0", "accounts", "bucket 1 does not follow"),
        ("UPDATE checkpoint SET queries_used = 1 WHERE \"index\" = 2", "accounts", "back in"),
        ("UPDATE episode SET answer_digest = 'x'", "accounts", "its outcome is not what"),
        ("UPDATE episode SET finished = NULL", "accounts", "a success without an end"),
        ("DELETE FROM episode", "references", "round has rows of episode"),
        ("DELETE FROM run", "references", "episode has rows of run"),
        ("UPDATE artifact SET sha256 = 'x'", "files", "its SHA-256 differs"),
        ("UPDATE artifact SET bytes = 9", "files", "has 4 bytes and should have 9"),
        ("UPDATE artifact SET path = path || 'x'", "files", "a.binx is not there"),
    ],
)  # fmt: skip
def test_what_was_altered_is_found(made_up, cli, statement, what, line):
    add_file(made_up.log, full(made_up))
    raw = sqlite3.connect(made_up.log.where)  # references are not enforced here
    raw.execute(statement)
    raw.commit()
    raw.close()
    faults = [one for one in check(made_up.log) if one.kind == "fault"]
    assert [one.what for one in faults if line in one.message][:1] == [what]
    told = json.loads(cli("check", "--json", code=1).stdout)
    assert not told["sound"]


def test_what_the_database_itself_finds_wrong_is_passed_on(made_up):
    for seed in range(3):
        full(made_up, seed=seed)
    made_up.log.close()
    raw = sqlite3.connect(made_up.log.where)
    raw.execute("PRAGMA writable_schema = ON")
    raw.execute("UPDATE sqlite_master SET sql = replace(sql, 'error TEXT', 'error TEXT NOT NULL') "
                "WHERE name = 'episode'")  # fmt: skip
    raw.commit()
    raw.close()
    with Log.open(made_up.log.where, read_only=True) as log:
        # SQLite believes its altered schema, so that empty cells count as damaged as well
        assert "integrity" in {one.what for one in check(log)}


def test_files_left_by_a_killed_run_are_noted_and_removed_when_asked(made_up, cli):
    id = full(made_up)
    kept = add_file(made_up.log, id)
    stray = artifacts.folder_of(made_up.log.where) / "dead" / "part.npz"
    stray.parent.mkdir()
    stray.write_bytes(b"x")
    (finding,) = check(made_up.log)
    assert (finding.kind, finding.what) == ("note", "files")
    assert "--yes would remove 1 file" in cli("prune", "--strays").stdout
    assert stray.exists()
    assert "removed 1 file" in cli("prune", "--strays", "--yes").stdout
    assert not stray.parent.exists()
    assert kept.exists()
    assert check(made_up.log) == []


def test_files_of_an_episode_that_runs_are_no_strays(made_up):
    id = made_up.play(status="started")
    folder = artifacts.folder_of(made_up.log.where) / id
    folder.mkdir(parents=True)
    (folder / "part.npz").write_bytes(b"x")
    assert strays(made_up.log) == []


# Merging


def test_a_merge_brings_everything_and_a_second_one_nothing(made_up, tmp_path):
    ids = [full(made_up, seed=seed) for seed in range(3)]
    add_file(made_up.log, ids[1])
    made_up.log.event("note", "of the log as a whole")
    with Log.open(tmp_path / "target.db") as target:
        done = merge(target, made_up.log)
        assert (done.runs, done.episodes, done.files, done.duplicates) == (3, 3, 1, 0)
        moved = everything(target)
        (artifact,) = target.artifacts(ids[1])
        assert artifact.path == f"target.db.artifacts/{ids[1]}/a.bin"
        path = artifacts.locate(target.where, ids[1], artifact.path)
        assert path.read_bytes() == b"tape"
        again = merge(target, made_up.log)
        assert (again.runs, again.episodes, again.files, again.duplicates) == (0, 0, 0, 3)
        assert everything(target) == moved
        assert [event.message for event in target.events()] == ["of the log as a whole"]
        assert check(target) == []
    original = everything(made_up.log)
    for side in (original, moved):
        side[ids[1]][-1].pop("path")
    assert moved == original


def test_a_merge_leaves_what_was_there_alone(made_up, tmp_path):
    full(made_up, seed=0)
    with Log.open(tmp_path / "other.db") as other:
        source = type(made_up)(other)
        theirs = full(source, seed=1)
        before = everything(made_up.log)
        merge(made_up.log, other)
        after = everything(made_up.log)
        assert after.pop(theirs) == everything(other)[theirs]
    assert after == before


def test_an_episode_that_is_still_played_stays_out_of_a_merge(made_up, tmp_path, cli):
    with Log.open(tmp_path / "other.db") as other:
        source = type(made_up)(other)
        id = source.play(status="started")
        source.play(seed=1)
        told = cli("merge", tmp_path / "other.db").stdout
    assert "copied 1 episode of 1 new run and 0 files" in told
    assert f"left out, because they have not ended: {id}; if the process of one is gone" in told
    assert f"'arena log close ID --log {tmp_path / 'other.db'}' closes it" in told
    assert [row.seed for row in made_up.log.episodes()] == [1]


def test_a_merge_that_fails_leaves_nothing_behind(made_up, tmp_path):
    ids = [full(made_up, seed=seed) for seed in range(2)]
    add_file(made_up.log, ids[0])
    add_file(made_up.log, ids[1]).unlink()
    with Log.open(tmp_path / "target.db") as target:
        with pytest.raises(LogError, match="cannot copy"):
            merge(target, made_up.log)
        assert (target.episodes(), target.runs(), strays(target)) == ([], [], [])


def test_a_log_is_not_merged_into_itself(made_up, cli):
    assert "expected another log" in cli("merge", made_up.log.where, code=2).stderr


# Pruning


def test_a_prune_removes_an_episode_with_all_of_it_and_nothing_else(made_up, cli):
    ids = [full(made_up, seed=seed) for seed in range(3)]
    files = [add_file(made_up.log, id) for id in ids]
    before = everything(made_up.log)
    runs = {run.id for run in made_up.log.runs()}
    gone = made_up.log.episode(ids[1]).run_id
    assert "--yes would remove 1 episode" in cli("prune", "--seed", "1").stdout
    assert everything(made_up.log) == before
    told = json.loads(cli("prune", "--seed", "1", "--yes", "--json").stdout)
    assert (told["episodes"], told["runs"], told["files"], told["bytes"]) == (1, 1, 1, 4)
    before.pop(ids[1])
    assert everything(made_up.log) == before
    assert {run.id for run in made_up.log.runs()} == runs - {gone}
    assert [path.exists() for path in files] == [True, False, True]
    assert check(made_up.log) == []


def test_what_a_newer_success_replaces_is_superseded(made_up, cli):
    failed = made_up.play(seed=0, status="error", error="x")
    first = made_up.play(seed=0, clone=0.1)
    newest = made_up.play(seed=0, clone=0.2)
    only = made_up.play(seed=1, status="cancelled")
    assert set(superseded(made_up.log)) == {failed, first}
    cli("prune", "--superseded", "--yes")
    assert {row.id for row in made_up.log.episodes()} == {newest, only}


@pytest.mark.parametrize("column", ["attack_price", "clone_accuracy", "exit_names"])
def test_a_damaged_episode_can_be_pruned(made_up, cli, column):
    sound, damaged = made_up.play(seed=0), made_up.play(seed=1)
    with made_up.log.engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE episode SET {column} = 9e999 WHERE id = '{damaged}'")
    with pytest.raises(LogError, match="damaged"):
        made_up.log.episode(damaged)
    assert "removed 1 episode" in cli("prune", damaged[:8], "--yes").stdout
    assert [row.id for row in made_up.log.episodes()] == [sound]


def test_a_running_episode_is_never_pruned(made_up, cli):
    id = made_up.play(status="started")
    with pytest.raises(LogError, match="still being played"):
        prune(made_up.log, [id])
    cli("prune", "--attacker", "dfme", "--yes")
    assert len(made_up.log.episodes()) == 1


def test_a_prune_of_everything_has_to_be_asked_for_in_words(made_up, cli):
    full(made_up)
    assert "name what to prune" in cli("prune", "--yes", code=2).stderr
    assert len(made_up.log.episodes()) == 1


def test_a_prune_by_age_keeps_what_is_younger(made_up, cli):
    full(made_up)
    assert "no such episode" in cli("prune", "--before", "7d").stdout
    assert "--yes would remove 1 episode" in cli("prune", "--before", "2999-01-01").stdout


# The views


def query(log, statement):
    with log.engine.connect() as connection:
        return connection.execute(text(statement)).all()


def test_the_scoreboard_view_averages_the_newest_success_of_each_seed(made_up):
    made_up.play(seed=0, clone=0.1)
    made_up.play(seed=0, clone=0.4)
    made_up.play(seed=1, clone=0.6)
    made_up.play(seed=2, clone=0.9, status="error", error="x")
    made_up.play(seed=3, clone=0.9, kind="what-if")
    made_up.play(seed=0, clone=0.8, plan={"threat": {"budget": 9000}}, budget=9000)
    rows = query(made_up.log, "SELECT budget, seeds, clone_accuracy, clone_accuracy_min, "
                              "clone_accuracy_max FROM scoreboard ORDER BY budget")  # fmt: skip
    assert [tuple(row) for row in rows] == [(1000, 2, 0.5, 0.4, 0.6), (9000, 1, 0.8, 0.8, 0.8)]


def test_the_curve_and_exits_views_have_a_row_for_each_thing_measured(made_up):
    made_up.play(clone=0.5, curve=((250, 0.5), (1000, 1.0)), exits=((600, 400), (20, 80)))
    curve = query(made_up.log, "SELECT checkpoint, budget_share, clone_accuracy FROM curve "
                               "ORDER BY checkpoint")  # fmt: skip
    assert [tuple(row) for row in curve] == [(0, 0.25, 0.25), (1, 1.0, 0.5)]
    statement = "SELECT traffic, exit, sum(answered) FROM exits GROUP BY 1, 2 ORDER BY 1, 2"
    exits = query(made_up.log, statement)
    assert [tuple(row) for row in exits] == [
        ("attack", 0, 600), ("attack", 1, 400), ("benign", 0, 20), ("benign", 1, 80)
    ]  # fmt: skip


def test_every_table_column_and_view_is_in_the_handbook(made_up):
    told = DOCS.read_text()
    look = inspect(made_up.log.engine)
    names = [*look.get_table_names(), *look.get_view_names()]
    assert set(VIEWS) == set(look.get_view_names())
    for name in names:
        assert f"### `{name}`" in told, name
        section = told.split(f"### `{name}`")[1].split("\n## ")[0].split("\n### ")[0]
        columns = [column["name"] for column in look.get_columns(name)]
        if name == "newest":
            columns = ["age"]
        missing = [column for column in columns if f"`{column}`" not in section]
        assert not missing, (name, missing)


def test_the_handbook_s_queries_run(made_up):
    full(made_up)
    statements = re.findall(r"```sql(?:ite)?\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    assert len(statements) >= 3
    for statement in statements:
        query(made_up.log, statement)


def test_the_handbook_s_commands_and_their_options_exist():
    blocks = re.findall(r"```console\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) >= 10
    for line in lines:
        arena, *words = line.split()
        assert arena == "arena"
        command = words[:2] if words[0] == "log" else words[:1]
        told = CliRunner().invoke(app, [*command, "--help"], env={"COLUMNS": "200"})
        assert told.exit_code == 0, line
        for option in (word for word in words if word.startswith("--")):
            assert option in told.stdout, line


def test_a_log_and_its_files_can_be_moved_together(made_up, tmp_path):
    kept = add_file(made_up.log, full(made_up))
    made_up.log.close()
    goal = tmp_path / "another place"
    goal.mkdir()
    for path in (Path(made_up.log.where), kept.parent.parent):
        path.rename(goal / path.name)
    with Log.open(goal / "arena.db") as log:
        assert check(log) == []


def test_a_relative_address_means_the_same_files_from_another_folder(
    made_up, tmp_path, monkeypatch
):
    id = full(made_up)
    monkeypatch.chdir(tmp_path)
    with Log.open("arena.db") as log:
        add_file(log, id)
        assert [one.path for one in log.artifacts(id)] == [f"arena.db.artifacts/{id}/a.bin"]
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with Log.open("../arena.db") as log:
        assert check(log) == []
        assert strays(log) == []
