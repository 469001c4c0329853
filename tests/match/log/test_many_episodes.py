"""Claims about logs of thousands of episodes: few queries, and the same answers as one by one."""

import gc
import json

import pytest
from sqlalchemy import event

from arena.analysis.episode_data import gather
from arena.bench.full_log import fill
from arena.log import batches
from arena.log.checking import changes, check
from arena.log.collector import rare_collections
from arena.log.content import content_digest
from arena.log.jsontext import canonical_json, from_json
from arena.log.merging import merge
from arena.log.rows import CheckpointRow, EventRow, InferenceRow, RoundRow
from arena.log.store import Log

BATCH, EPISODES = 20, 45
"""Three batches of ids."""

PARTS = {RoundRow: "rounds", CheckpointRow: "checkpoints", InferenceRow: "inferences",
         EventRow: "events"}  # fmt: skip


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(batches, "BATCH", BATCH)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "full.db"
    fill(path, EPISODES)
    with Log.open(path, read_only=True) as log:
        yield log


def queries(log, work):
    """Count the statements that some work sends to the database."""
    sent = []

    def note(connection, cursor, statement, *rest):
        sent.append(statement)

    event.listen(log.engine, "before_cursor_execute", note)
    try:
        work()
    finally:
        event.remove(log.engine, "before_cursor_execute", note)
    return len(sent)


def test_episodes_are_gathered_checked_and_merged_by_a_few_queries_for_hundreds(full, tmp_path):
    ids = [row.id for row in full.episodes(brief=True)]
    assert queries(full, lambda: gather(full, ids)) < EPISODES
    assert queries(full, lambda: check(full)) < 2 * EPISODES
    with Log.open(tmp_path / "copy.db") as copy:
        assert queries(full, lambda: merge(copy, full)) < EPISODES
        assert queries(full, lambda: merge(copy, full)) < EPISODES  # all are there: digests decide
        assert check(copy) == []
        assert len(copy.episodes(brief=True)) == EPISODES


def test_a_made_up_log_of_many_episodes_is_sound_and_one_by_one_reading_agrees(full):
    assert check(full) == []
    ids = [row.id for row in full.episodes(brief=True)]
    for kind, name in PARTS.items():
        many = full.of_episodes(kind, [*ids, "no such id"])
        assert many.pop("no such id") == []
        for id in (ids[0], ids[25], ids[-1]):
            assert many[id] == getattr(full, name)(id) != []
    exact = full.exactly([ids[3], "no such id"])
    assert exact == {ids[3]: full.episode(ids[3])}


def test_one_changed_row_among_many_is_found_and_named_alone(full, tmp_path):
    with Log.open(tmp_path / "copy.db") as copy:
        merge(copy, full)
        id = copy.episodes(brief=True)[30].id
        with copy.engine.begin() as connection:
            connection.exec_driver_sql(
                "UPDATE checkpoint SET clone_accuracy = 0.123 WHERE episode_id = ?", (id,)
            )
            assert content_digest(connection, id) != copy.episode(id).content_digest
        (fault,) = check(copy)
        assert id in fault.message
        assert changes(copy, id) == [fault.message]


@pytest.mark.parametrize("text", ['{"a": [1, 2.5, null]}', " [1] ", "7", '"é"', b"[1]", "-0.0"])
def test_json_is_read_as_the_standard_library_reads_it(text):
    assert repr(from_json(text)) == repr(json.loads(text))


@pytest.mark.parametrize("text", ["", "{", "[1] x", "nan", "{'a': 1}", "\x00"])
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        from_json(text)


def test_values_that_json_cannot_tell_apart_have_one_canonical_text():
    assert canonical_json({"b": (1, 2), "a": float("nan")}) == '{"a":null,"b":[1,2]}'
    assert canonical_json({"a": None, "b": [1, 2]}) == '{"a":null,"b":[1,2]}'


def test_the_collector_looks_as_often_as_before_once_a_log_was_read():
    before = gc.get_threshold()

    @rare_collections()
    def read():
        assert gc.get_threshold()[0] >= 50_000
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        read()
    assert gc.get_threshold() == before
