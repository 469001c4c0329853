"""Tapes: queries are kept as they were asked, and another defender can answer them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import artifacts
from arena.log.checking import check
from arena.log.episode_filter import EpisodeFilter
from arena.log.merging import merge
from arena.log.pruning import strays
from arena.log.store import Log
from arena.recording.shards import rounds_on_tape
from arena.replay.counterfactual import answer_with
from arena.replay.verify import verify
from arena.runner.match import play
from arena.scenario import Scenario
from envs.errors import ArenaError, UnknownName
from envs.game.digests import HostDigests

TAPED = {
    "record": "queries",
    "threat": {"budget": 500},
    "defenders": [
        {"defence": "undefended"},
        {"name": "rounded", "defence": "truncation", "params": {"decimals": 1}},
    ],
}


@pytest.fixture(scope="module")
def taped(tmp_path_factory, tiny):
    """A log with a taped episode against each defender; the log, and the first's row."""
    path = tmp_path_factory.mktemp("taped") / "arena.db"
    with Log.open(path) as log:
        rows = play(Scenario.parse(tiny(**TAPED)), log=log).episodes
        assert [row.status for row in rows] == ["success", "success"], rows
        yield log, rows[0]


def test_the_tape_of_a_game_is_every_query_and_answer_in_order(taped):
    log, row = taped
    rounds = list(rounds_on_tape(log, row.id))
    assert sum(len(one.images) for one in rounds) == row.queries_used == 500
    assert all(one.posteriors.shape == (len(one.images), 10) for one in rounds)
    # the digests of the log, folded from the tape alone
    digests = HostDigests()
    for one in rounds:
        digests.add(one.images, one.posteriors)
    assert digests.read() == (row.query_digest, row.answer_digest)


def test_a_taped_game_is_the_game_that_was_played_without(taped, tiny, tmp_path):
    plain = tiny(threat=TAPED["threat"])
    with Log.open(tmp_path / "plain.db") as log:
        (row,) = play(Scenario.parse(plain), log=log).episodes
        assert {one.kind for one in log.artifacts(row.id)} == {"sample-queries"}
    assert (row.answer_digest, row.clone_accuracy) == (
        taped[1].answer_digest, taped[1].clone_accuracy
    )  # fmt: skip


def test_the_log_with_its_files_is_in_order(taped):
    assert check(taped[0]) == []


def test_a_replay_of_a_taped_episode_leaves_no_files(taped):
    log, row = taped
    assert verify(log, row.id).same
    assert strays(log) == []


@pytest.fixture
def copied(taped, tmp_path):
    """A copy of the taped log and its files, to be damaged; the log, and the first's row."""
    path = tmp_path / "copy.db"
    with Log.open(path) as log:
        merge(log, taped[0])
        yield log, taped[1]


def test_with_a_tape_the_very_round_that_differs_is_named(copied):
    log, row = copied
    (shard,) = [one for one in log.artifacts(row.id) if one.kind == "queries"]
    path = artifacts.locate(log.where, row.id, shard.path)
    with np.load(path) as arrays:
        content = {name: arrays[name].copy() for name in arrays}
    place = int(content["rounds"][:3].sum()) + 1  # the second answer of the fourth round
    content["posteriors"][place] = content["posteriors"][place, ::-1]
    np.savez_compressed(path, **content)
    with log.engine.begin() as connection:  # as if it had been played like that
        statement = "UPDATE round SET answer_digest = 'x' || bucket WHERE first_round >= 3"
        connection.execute(text(statement))
        connection.execute(text("UPDATE episode SET answer_digest = 'x'"))
        statement = text("UPDATE artifact SET sha256 = :sha, bytes = :n WHERE path = :path")
        facts = {"sha": artifacts.digest(path), "n": path.stat().st_size, "path": shard.path}
        connection.execute(statement, facts)
    first, second, *_ = verify(log, row.id).differences
    queries = content["rounds"][:4].cumsum()
    assert first.where == f"round 3 of the tape, queries {queries[2] + 1} to {queries[3]}"
    assert first.what == "answers"
    assert second.where.startswith("bucket")
    assert second.what == "answer_digest"


def test_a_tape_that_is_the_same_shows_that_the_log_was_altered(copied):
    log, row = copied
    with log.engine.begin() as connection:
        connection.execute(text("UPDATE round SET answer_digest = 'x' WHERE bucket = 12"))
    verdict = verify(log, row.id)
    assert [one.what for one in verdict.differences] == ["answer_digest"]
    assert verdict.causes == (
        "every query and answer on the tape is the same: the log was altered",
    )


def test_without_its_tape_a_taped_episode_is_still_verified_by_its_digests(copied):
    log, row = copied
    for shard in log.artifacts(row.id):
        artifacts.locate(log.where, row.id, shard.path).unlink()
    verdict = verify(log, row.id)
    assert verdict.same
    assert "rounds could not be compared one by one" in "\n".join(verdict.notes)


def test_an_altered_tape_fails_the_verification(copied):
    log, row = copied
    shard = next(one for one in log.artifacts(row.id) if one.kind == "queries")
    path = artifacts.locate(log.where, row.id, shard.path)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    words = ["replay", row.id, "--verify", "--log", log.where, "--quiet"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    assert f"the tape cannot be compared: episode {row.id}: {shard.path} was altered" in done.stdout
    assert "Traceback" not in done.output


def test_the_same_defender_gives_the_same_answers_to_the_recorded_queries(taped):
    log, row = taped
    found = answer_with(log, row.id, "undefended")
    assert (found.agreement, found.distance) == (1.0, 0.0)
    assert found.episode.query_digest == row.query_digest
    assert found.episode.answer_digest == row.answer_digest
    assert found.episode.served_accuracy == row.served_accuracy


def test_another_defender_answers_the_same_queries_otherwise(taped):
    log, row = taped
    found = answer_with(log, row.id[:8], "rounded")
    assert found.episode.query_digest == row.query_digest
    assert found.episode.answer_digest != row.answer_digest
    assert 0 < found.distance < 2
    assert (found.episode.kind, found.episode.defender) == ("what-if", "rounded")
    assert found.episode.clone_accuracy is None
    (event,) = [event for event in log.events(found.episode.id) if event.kind == "what-if"]
    assert event.data["origin"] == row.id


def test_the_listing_tells_a_what_if_from_a_play(taped):
    log, row = taped
    id = answer_with(log, row.id, "rounded").episode.id
    listed = CliRunner().invoke(app, ["episodes", "--kind", "what-if", "--log", log.where]).stdout
    (line,) = [line for line in listed.splitlines() if line.startswith(id)]
    assert "success (what-if)" in line
    assert not any(line.startswith(row.id) for line in listed.splitlines())
    shown = CliRunner().invoke(app, ["episodes", "show", id, "--log", log.where]).stdout
    assert "success (what-if)" in shown.splitlines()[0]


def test_a_what_if_does_not_count_as_a_play_of_its_plan(taped, tiny):
    log, row = taped
    answer_with(log, row.id, "reverse-sigmoid")
    known = len(log.episodes(EpisodeFilter(kind="play")))
    scenario = tiny(**TAPED | {"defenders": [{"defence": "reverse-sigmoid"}]})
    assert not any(log.finished(plan.hash) for plan in Scenario.parse(scenario).plans())
    assert play(Scenario.parse(tiny(**TAPED)), log=log).skipped == known == 2


def test_a_what_if_needs_a_tape_that_is_whole_and_a_defender_that_exists(taped, made_up):
    log, row = taped
    with pytest.raises(UnknownName, match="did you mean 'rounded'"):
        answer_with(log, row.id, "roundet")
    (shard,) = [one for one in log.artifacts(row.id) if one.kind == "queries"]
    path = artifacts.locate(log.where, row.id, shard.path)
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + b"x")
        found = answer_with(log, row.id, "rounded")
        assert (found.episode.status, "was altered" in found.episode.error) == ("error", True)
        path.unlink()
        with pytest.raises(ArenaError, match="shard 0 of its queries is not there"):
            answer_with(log, row.id, "rounded")
    finally:
        path.write_bytes(content)


def test_without_a_tape_the_user_is_told_how_to_make_one(tmp_path, tiny):
    plain = tiny(threat=TAPED["threat"])
    with Log.open(tmp_path / "plain.db") as log:
        (row,) = play(Scenario.parse(plain), log=log).episodes
        with pytest.raises(ArenaError, match="arena run FILE --set record=queries"):
            answer_with(log, row.id, "undefended")


def test_the_command_line_sets_both_side_by_side_and_says_what_is_frozen(taped):
    log, row = taped
    words = ["replay", row.id, "--against", "rounded", "--quiet", "--log", log.where]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert f"({row.id}), answered by rounded: success" in lines[0]
    assert lines[1].split() == ["undefended", "rounded"]
    assert lines[-1].startswith("note: the attacker's reactions are frozen")
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert told["episode"]["kind"] == "what-if"
    done = CliRunner().invoke(app, [*words, "--verify"])
    assert done.exit_code == 2


def test_the_handbook_s_example_reads_a_tape(taped, capsys):
    log, row = taped
    told = (Path(__file__).parents[3] / "docs" / "log.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", told, flags=re.DOTALL)
    exec(example.replace("arena.db", log.where).replace('"ID"', repr(row.id)), {})
    assert capsys.readouterr().out.startswith("torch.Size([64, 1, 8, 8])")
