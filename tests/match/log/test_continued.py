"""An episode that was copied where it had broken off, and was played on at its origin."""

import sqlite3
from dataclasses import replace

import pytest

from arena.log.checking import check
from arena.log.merging import merge
from arena.log.outcome import OutcomeRow
from arena.log.rows import CheckpointRow, EpisodeRecord, RoundRow, RunRecord
from arena.log.store import Log
from envs.errors import LogError

RECORD = EpisodeRecord(
    scenario_name="x", plan_hash="p", plan={"a": 1}, seed=7, attacker="a", defender="d",
    victim="v", clone="c", data="digits", budget=12,
)  # fmt: skip
FIRST = RoundRow(
    bucket=0, first_round=0, rounds=1, attack_answered=4, benign_answered=0, queries_used=4,
    attack_exits=((4,),), attack_macs=4, attack_seconds=0.5, countermeasure={"s": 0.5},
)  # fmt: skip
PART = replace(FIRST, bucket=1, first_round=1, attack_answered=2, queries_used=6)
WHOLE = replace(PART, rounds=2, attack_answered=8, queries_used=12)


@pytest.fixture
def logs(tmp_path):
    with Log.open(tmp_path / "here.db") as here, Log.open(tmp_path / "origin.db") as origin:
        yield here, origin


def broken_off(log):
    """Play until 6 of 12 queries, with a save there; returns the id and the mark of the save."""
    writer = log.begin_episode(log.begin_run(RunRecord(command="t", scenario_name="x")), RECORD)
    writer.round(FIRST)
    writer.checkpoint(CheckpointRow(index=1, queries_used=4, wall_seconds=0.5, clone_accuracy=0.2))
    writer.flush()
    mark = log.mark(writer.id)
    writer.round(PART)
    writer.event("cancelled", "Ctrl-C")
    writer.finish("cancelled", OutcomeRow(queries_used=6))
    return writer.id, mark


def play_on(log, id, mark, clone_accuracy=0.9):
    writer = log.reopen_episode(id, mark, seconds=0.5, queries_used=6)
    writer.round(WHOLE)
    writer.checkpoint(
        CheckpointRow(index=2, queries_used=12, wall_seconds=0.7, clone_accuracy=clone_accuracy)
    )
    writer.finish("success", OutcomeRow(queries_used=12, clone_accuracy=clone_accuracy))


def told(done):
    return done.episodes, done.continued, done.duplicates


def change(log, statement):
    with sqlite3.connect(log.where) as raw:
        assert raw.execute(statement).rowcount
    raw.close()


def test_what_became_of_an_episode_takes_the_place_of_its_broken_off_rows(logs):
    here, origin = logs
    id, mark = broken_off(origin)
    assert told(merge(here, origin)) == (1, 0, 0)
    play_on(origin, id, mark)
    assert told(merge(here, origin)) == (1, 1, 0)
    for read in (Log.episode, Log.rounds, Log.checkpoints, Log.events):
        assert read(here, id) == read(origin, id)
    assert here.rounds(id) == [FIRST, WHOLE]
    assert not [one for one in check(here) if one.what == "digest"]
    assert told(merge(here, origin)) == (0, 0, 1)


def test_the_broken_off_rows_do_not_come_back(logs):
    here, origin = logs
    id, mark = broken_off(origin)
    merge(here, origin)
    play_on(origin, id, mark)
    assert told(merge(origin, here)) == (0, 0, 1)
    assert origin.episode(id).status == "success"


def test_two_that_were_played_on_apart_are_refused(logs):
    here, origin = logs
    id, mark = broken_off(origin)
    merge(here, origin)
    play_on(origin, id, mark)
    play_on(here, id, mark, clone_accuracy=0.8)
    for target, source in ((here, origin), (origin, here)):
        with pytest.raises(LogError, match=f"episode {id} is in .* with different rows"):
            merge(target, source)
    assert here.episode(id).clone_accuracy == 0.8


@pytest.mark.parametrize(
    ("side", "statement"),
    [
        ("here", "UPDATE round SET attack_seconds = 9 WHERE bucket = 0"),
        ("origin", "UPDATE checkpoint SET clone_accuracy = 0.3 WHERE \"index\" = 1"),
        ("here", "UPDATE episode SET seed = 8"),
        ("origin", "UPDATE run SET command = 'other'"),
    ],
)  # fmt: skip
def test_a_log_in_which_the_beginning_was_changed_is_refused(logs, side, statement):
    here, origin = logs
    id, mark = broken_off(origin)
    merge(here, origin)
    play_on(origin, id, mark)
    changed = here if side == "here" else origin
    change(changed, statement)
    change(changed, "UPDATE episode SET content_digest = NULL")  # or that alone would tell
    with pytest.raises(LogError, match="with different rows"):
        merge(here, origin)
    assert here.episode(id).status == "cancelled"


def test_an_end_that_was_changed_after_it_is_refused(logs):
    here, origin = logs
    id, mark = broken_off(origin)
    merge(here, origin)
    play_on(origin, id, mark)
    change(origin, "UPDATE episode SET clone_accuracy = 1")
    with pytest.raises(LogError, match="with different rows"):
        merge(here, origin)


def test_an_episode_that_is_played_here_again_is_left_alone(logs):
    here, origin = logs
    id, mark = broken_off(origin)
    merge(here, origin)
    writer = here.reopen_episode(id, mark, seconds=0.5, queries_used=6)
    assert told(merge(here, origin)) == (0, 0, 1)
    assert here.episode(id).status == "started"
    writer.finish("success", OutcomeRow(queries_used=12))
