"""A log that was changed after an episode's end is found out without playing it again."""

import json
import sqlite3

import pytest
from typer.testing import CliRunner

from arena.bench.full_log import fill
from arena.cli.app import app
from arena.log import content
from arena.log.checking import check
from arena.log.merging import merge
from arena.log.sealing import broken_seals, seal
from arena.log.store import Log
from envs.errors import LogError

PLAN = {
    "scenario": "made-up", "victim": {"use": "resnet10"}, "clone": {"use": "resnet10"},
    "data": {"use": "digits"}, "attacker": {"name": "dfme", "params": {}},
    "defender": {"name": "dnf"},
}  # fmt: skip


@pytest.fixture
def played(made_up):
    """A log of two sound episodes; its path and the ids."""
    ids = [
        made_up.play(
            seed=seed,
            plan=PLAN,
            inferences=[{"attribute": "depth", "inferred": 8, "truth": 9, "correct": False}],
            events=[("note", "half way", {"share": 0.5})],
            answer_digest=None,
        )
        for seed in range(2)
    ]
    assert [one.what for one in check(made_up.log)] == ["identity"] * 2  # made-up parameters
    return made_up.log, ids


def falsify(log, statement):
    raw = sqlite3.connect(log.where)
    raw.execute(statement)
    raw.commit()
    assert raw.total_changes
    raw.close()


FALSIFICATIONS = [
    "UPDATE episode SET attack_compute_share = 0.1 WHERE id = '{id}'",
    "UPDATE episode SET benign_compute_share = 0.2 WHERE id = '{id}'",
    "UPDATE episode SET attack_macs_mean = 1 WHERE id = '{id}'",
    "UPDATE episode SET clone_accuracy = 0.93 WHERE id = '{id}'",
    "UPDATE episode SET clone_fidelity = clone_fidelity + 1e-12 WHERE id = '{id}'",
    "UPDATE episode SET served_accuracy = 1 WHERE id = '{id}'",
    "UPDATE episode SET harden_seconds = 0 WHERE id = '{id}'",
    "UPDATE episode SET defender = 'undefended' WHERE id = '{id}'",
    "UPDATE episode SET attacker = 'noise' WHERE id = '{id}'",
    "UPDATE episode SET seed = 77 WHERE id = '{id}'",
    "UPDATE episode SET victim = 'vgg' WHERE id = '{id}'",
    "UPDATE episode SET clone = 'vgg' WHERE id = '{id}'",
    "UPDATE episode SET data = 'cifar10' WHERE id = '{id}'",
    "UPDATE episode SET budget = 9 WHERE id = '{id}'",
    "UPDATE episode SET scenario_name = 'other' WHERE id = '{id}'",
    "UPDATE episode SET num_classes = 100 WHERE id = '{id}'",
    "UPDATE episode SET git_commit = 'b' WHERE id = '{id}'",
    "UPDATE episode SET device = 'cuda' WHERE id = '{id}'",
    "UPDATE episode SET plan_hash = 'x' WHERE id = '{id}'",
    "UPDATE episode SET plan = replace(plan, 'resnet10', 'vgg') WHERE id = '{id}'",
    "UPDATE episode SET plan = NULL WHERE id = '{id}'",
    "UPDATE episode SET started = '2020-01-01 00:00:00.000000' WHERE id = '{id}'",
    "UPDATE episode SET wall_seconds = 1 WHERE id = '{id}'",
    "UPDATE episode SET status = 'cancelled' WHERE id = '{id}'",
    "UPDATE episode SET content_digest = 'x' WHERE id = '{id}'",
    "UPDATE run SET scenario_text = 'name = 1'",
    "UPDATE run SET command = 'arena run honest.toml'",
    "UPDATE round SET answer_digest = NULL, query_digest = '0' WHERE episode_id = '{id}'",
    "UPDATE round SET benign_correct = 1 WHERE episode_id = '{id}' AND bucket = 0",
    "UPDATE round SET attack_seconds = 1 WHERE episode_id = '{id}' AND bucket = 1",
    "UPDATE round SET countermeasure = '{{}}' WHERE episode_id = '{id}' AND bucket = 0",
    "DELETE FROM round WHERE episode_id = '{id}' AND bucket = 1",
    "UPDATE checkpoint SET clone_accuracy = 0.098 WHERE episode_id = '{id}' AND \"index\" = 2",
    "UPDATE checkpoint SET metrics = '{{\"x\": 1}}' WHERE episode_id = '{id}'",
    "DELETE FROM checkpoint WHERE episode_id = '{id}' AND \"index\" = 2",
    "UPDATE inference SET correct = 1 WHERE episode_id = '{id}'",
    "UPDATE inference SET truth = '8' WHERE episode_id = '{id}'",
    "UPDATE event SET message = 'nothing' WHERE episode_id = '{id}'",
    "DELETE FROM event WHERE episode_id = '{id}'",
    "INSERT INTO event (episode_id, time, kind, message) "
    "VALUES ('{id}', '2026-01-01 00:00:00.000000', 'alarm', 'seen')",
    "INSERT INTO artifact (episode_id, kind, path, sha256, bytes) "
    "VALUES ('{id}', 'queries', 'x', 'y', 1)",
]  # fmt: skip


@pytest.mark.parametrize(
    "statement",
    [pytest.param(statement, marks=[] if number % 2 == 0 else pytest.mark.slow)
     for number, statement in enumerate(FALSIFICATIONS)],
)  # fmt: skip
def test_a_change_of_any_row_is_found(played, statement):
    log, ids = played
    falsify(log, statement.format(id=ids[0]))
    found = [one.message for one in check(log) if one.what == "contents" and one.kind == "fault"]
    assert any(ids[0] in message for message in found)
    assert statement.startswith("UPDATE run") or not any(ids[1] in message for message in found)


@pytest.mark.parametrize(
    ("statement", "line"),
    [
        (FALSIFICATIONS[0], "its attack_compute_share is not what its rounds"),
        (FALSIFICATIONS[2], "its attack_macs_mean is not what its rounds"),
        (FALSIFICATIONS[7], "its defender is 'undefended', and 'dnf' in its plan"),
        (FALSIFICATIONS[9], "its seed is 77, and 0 in its plan"),
        (FALSIFICATIONS[13], "its budget is 9, and 1000 in its plan"),
        ("UPDATE episode SET benign_answered = 1 WHERE id = '{id}'", "its benign_answered is not"),
    ],
)
def test_what_contradicts_other_columns_is_named_even_without_a_digest(played, statement, line):
    log, ids = played
    falsify(log, "UPDATE episode SET content_digest = NULL")
    falsify(log, statement.format(id=ids[0]))
    assert any(line in one.message for one in check(log))
    assert any("2 ended episodes have no digest" in one.message for one in check(log))


@pytest.mark.parametrize("number", range(3))
def test_a_digest_that_was_removed_is_a_fault(tmp_path, number):
    fill(tmp_path / "run.db", 3)  # one run
    with Log.open(tmp_path / "run.db") as log:
        id = log.ids()[number]
        falsify(
            log, f"UPDATE episode SET clone_accuracy = 1, content_digest = NULL WHERE id = '{id}'"
        )
        (fault,) = [one for one in check(log) if one.kind == "fault"]
        assert id in fault.message
        falsify(log, "UPDATE episode SET content_digest = NULL")  # an old log has none at all
        assert {one.kind for one in check(log)} == {"note"}


@pytest.mark.parametrize(("began", "kinds"), [("2025", {"note"}), ("2099", {"note", "fault"})])
def test_a_run_without_digests_had_them_where_an_earlier_one_has(tmp_path, began, kinds):
    for _ in range(2):
        fill(tmp_path / "runs.db", 2)
    with Log.open(tmp_path / "runs.db") as log:
        run = log.runs()[0].id
        falsify(log, f"UPDATE episode SET content_digest = NULL WHERE run_id = '{run}'")
        moment = f"{began}-01-01 00:00:00.000000"
        falsify(log, f"UPDATE episode SET started = '{moment}' WHERE run_id = '{run}'")
        assert {one.kind for one in check(log)} == kinds


def test_a_copy_with_another_score_is_not_passed_over_by_a_merge(played, tmp_path):
    log, ids = played
    with Log.open(tmp_path / "copy.db") as copy:
        assert merge(copy, log).episodes == 2
        assert merge(copy, log).duplicates == 2
        assert [one.what for one in check(copy)] == ["identity"] * 2
        falsify(copy, f"UPDATE episode SET clone_accuracy = 0.9 WHERE id = '{ids[1]}'")
        with pytest.raises(LogError, match=f"episode {ids[1]} is in .* with different rows"):
            merge(log, copy)
    assert log.episode(ids[1]).clone_accuracy == 0.5


def test_an_episode_that_a_copy_has_unfinished_is_passed_over_by_a_merge(played, tmp_path):
    log, ids = played
    with Log.open(tmp_path / "copy.db") as copy:
        merge(copy, log)
        # taken while it was played
        falsify(copy, f"UPDATE episode SET status = 'started', finished = NULL "
                      f"WHERE id = '{ids[0]}'")  # fmt: skip
        done = merge(log, copy)
    assert (done.episodes, done.duplicates, done.left_out) == (0, 2, ())
    assert log.episode(ids[0]).status == "success"


def test_a_column_that_is_empty_changes_no_digest(played, monkeypatch):
    log, ids = played
    assert log.episode(ids[0]).error is None
    with log.engine.connect() as connection:
        with_it = content.content_digest(connection, ids[0])
        monkeypatch.setattr(content, "_CHANGING", content._CHANGING | {"error"})
        assert content.content_digest(connection, ids[0]) == with_it


def test_a_seal_finds_what_was_changed_with_its_digest_or_removed(played, tmp_path):
    log, ids = played
    path = tmp_path / "seal.txt"
    words = ["log", "seal", "--out", str(path), "--log", log.where]
    assert CliRunner().invoke(app, words).stdout == f"{path}: 2 episodes\n"
    assert broken_seals(log, path) == []
    falsify(log, f"UPDATE episode SET clone_accuracy = 0.9 WHERE id = '{ids[0]}'")
    falsify(log, f"DELETE FROM episode WHERE id = '{ids[1]}'")
    said = {one.message for one in broken_seals(log, path)}
    assert said == {
        f"episode {ids[0]}: it was changed since it was sealed",
        f"episode {ids[1]} was sealed and is not there",
    }
    words = ["log", "check", "--seal", str(path), "--json", "--log", log.where]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 1
    assert "seal" in {one["what"] for one in json.loads(told.stdout)["findings"]}


@pytest.mark.parametrize("text", [
    "", "something\n", "fortress-arena seal 1\nx\n", "é\n", "\ufefffortress-arena seal 1\n",
    "version = 1\n", "SQLite format 3\0", "fortress-arena seal 1\na b c\n",
])  # fmt: skip
def test_what_is_no_seal_is_refused_in_one_line(played, tmp_path, text):
    log, _ = played
    (tmp_path / "seal.txt").write_text(text, encoding="utf-8")
    with pytest.raises(LogError, match="seal") as refused:
        broken_seals(log, tmp_path / "seal.txt")
    assert "\n" not in str(refused.value)
    assert "codec" not in str(refused.value)
    with pytest.raises(LogError, match="cannot write the seal"):
        seal(log, tmp_path)
