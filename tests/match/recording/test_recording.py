"""Tapes: queries are kept as they were asked, and another defender can answer them."""

import gc
import json
import queue
import re
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from sqlalchemy import text
from typer.testing import CliRunner

from arena.cli.app import app
from arena.log import artifacts
from arena.log.checking import check
from arena.log.merging import merge
from arena.log.pruning import strays
from arena.log.rows import EpisodeFilter
from arena.log.store import Log
from arena.recording import shards
from arena.recording.shards import rounds_on_tape
from arena.recording.tape import Tape
from arena.replay.counterfactual import answer_with
from arena.replay.verify import verify
from arena.runner.match import play
from arena.scenario import Scenario
from envs.errors import ArenaError, LogError, UnknownName
from envs.game.digests import HostDigests
from envs.game.rounds import AnsweredRequest, Countermeasure, Round

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


def a_round(images):
    """A round whose answers are made of the first pixel of each image."""
    first = images[:, 0, 0, :1]
    answers = torch.cat([first, 1 - first], 1)
    exits = torch.zeros(len(images), dtype=torch.int64)
    return Round(0, AnsweredRequest(images, 0, Countermeasure(), answers, exits), (), answers)


def a_tape(tmp_path):
    return Tape(str(tmp_path / "arena.db"), "abc", queries=True)


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


def test_shards_are_cut_at_rounds_and_read_back_as_they_were(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_BYTES", 1000)
    tape = a_tape(tmp_path)
    generator = torch.Generator().manual_seed(0)
    asked = [torch.rand(n, 1, 4, 4, generator=generator) for n in (7, 1, 12, 3, 9, 2)]
    rounds = [a_round(images) for images in asked]
    for round in rounds:
        tape.on_round(round)
    tape.close()
    rows = [row for row in tape.finished() if row.kind == "queries"]
    # 72 bytes a query: 7+1+12 pass 1000 bytes, 3+9+2 do at the last
    assert [row.meta["queries"] for row in rows] == [20, 14]
    for row in rows:
        assert artifacts.digest(tmp_path / row.path) == row.sha256
    stored = [np.load(tmp_path / row.path) for row in rows]
    assert torch.equal(torch.from_numpy(np.concatenate([one["images"] for one in stored])),
                       torch.cat(asked))  # fmt: skip
    assert torch.equal(torch.from_numpy(np.concatenate([one["posteriors"] for one in stored])),
                       torch.cat([round.given for round in rounds]))  # fmt: skip
    assert [one["rounds"].tolist() for one in stored] == [[7, 1, 12], [3, 9, 2]]


def test_what_an_attacker_does_to_its_tensors_afterwards_is_not_on_the_tape(tmp_path):
    tape = a_tape(tmp_path)
    images = torch.full((4, 1, 4, 4), 0.25)
    tape.on_round(a_round(images))
    images.fill_(0.75)
    tape.close()
    (row,) = [row for row in tape.finished() if row.kind == "queries"]
    with np.load(tmp_path / row.path) as arrays:
        assert (arrays["images"] == 0.25).all()


def test_the_game_waits_for_a_slow_disk_instead_of_filling_the_memory(tmp_path, monkeypatch):
    gate = threading.Event()
    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    write = np.savez_compressed
    monkeypatch.setattr(
        np, "savez_compressed", lambda file, **arrays: gate.wait(30) and write(file, **arrays)
    )
    tape = a_tape(tmp_path)
    asked = []

    def ask():
        for _ in range(3 * shards.WAITING):
            tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
            asked.append(1)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(1.0)
    # those that wait, the one being written, and the one that cannot be put down
    assert thread.is_alive()
    assert shards.WAITING <= len(asked) <= shards.WAITING + 2
    gate.set()
    thread.join(30)
    tape.close()
    assert len([row for row in tape.finished() if row.kind == "queries"]) == 3 * shards.WAITING


def test_an_interrupt_at_any_moment_leaves_a_tape_that_can_be_closed(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    gc.disable()  # an interrupt inside a callback of the collector is lost
    round = a_round(torch.rand(1, 1, 4, 4))
    try:
        for trial in range(150):
            tape = Tape(str(tmp_path / "arena.db"), str(trial), queries=True)
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.002 + 2e-5 * trial)
                # not for ever: an interrupt that falls into a destructor is lost
                enough = time.monotonic() + 1.0
                while time.monotonic() < enough:
                    tape.on_round(round)
            except KeyboardInterrupt:
                pass
            closing = threading.Thread(target=tape.close, daemon=True)
            closing.start()
            closing.join(60)
            assert not closing.is_alive(), trial
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()


def test_a_disk_that_refuses_is_told_and_leaves_no_half_a_file(tmp_path, monkeypatch):
    def refuse(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", refuse)
    tape = a_tape(tmp_path)
    tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
    with pytest.raises(LogError, match=r"cannot write queries to .*: No space left on device"):
        tape.close()
    assert list(tape.finished()) == []
    assert list((tmp_path / "arena.db.artifacts" / "abc").iterdir()) == []


def test_on_a_full_disk_the_game_goes_on_without_a_tape(tmp_path, monkeypatch):
    def refuse(file, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards, "SHARD_BYTES", 1)
    monkeypatch.setattr(np, "savez_compressed", refuse)
    tape = a_tape(tmp_path)
    for _ in range(200):  # the fault is known after some of them
        tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
    state = tape.state()
    assert state["shards"] is None
    with pytest.raises(LogError, match="No space left on device"):
        tape.close()
    monkeypatch.undo()
    again = a_tape(tmp_path)  # resumed, it does not begin in the middle
    again.restore(state)
    again.on_round(a_round(torch.rand(1, 1, 4, 4)))
    with pytest.raises(LogError, match="could not be written"):
        again.close()
    assert not [row for row in again.finished() if row.kind == "queries"]


def test_a_save_between_two_rounds_does_not_move_where_shards_end(tmp_path):
    rounds = [a_round(torch.rand(3, 1, 4, 4)) for _ in range(4)]
    seen = []
    for name, saved_at in (("straight", None), ("resumed", 2)):
        tape = a_tape(tmp_path / name)
        for number, round in enumerate(rounds):
            if number == saved_at:
                state = tape.state()
                assert len(state["held"]) == 2
                tape.on_round(a_round(torch.rand(5, 1, 4, 4)))  # lost with the process
                tape.close()
                tape = a_tape(tmp_path / name)
                tape.restore(state)
            tape.on_round(round)
        tape.close()
        (row,) = [row for row in tape.finished() if row.kind == "queries"]
        seen.append((row.sha256, row.bytes, row.meta))
    assert seen[0] == seen[1]


def test_a_log_that_is_no_file_keeps_nothing():
    tape = Tape("sqlite://", "abc", queries=True)
    tape.on_round(a_round(torch.rand(1, 1, 4, 4)))
    tape.sample(3)
    tape.close()
    assert list(tape.finished()) == []


# What-ifs


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


def test_whoever_goes_on_removes_what_was_written_after_and_what_a_kill_left_unfinished(tmp_path):
    names = ("queries-00000.npz", "queries-00001.npz", ".queries-00001.npz.0a1b2c3d.part")
    for name in names:
        (tmp_path / name).write_bytes(b"")
    writer = shards.ShardWriter("log.db", tmp_path, queue.SimpleQueue())
    writer.go_on(1, ())
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["queries-00000.npz"]
