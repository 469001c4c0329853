"""Files of a broken-off episode stay until the episode is taken up again, and belong to one row."""

from contextlib import suppress

import pytest

from arena.log.checking import check
from arena.log.store import Log
from arena.runner.match import play
from arena.runner.saves.store import SaveStore
from envs.errors import LogError

TAPED = {"record": "queries", "threat": {"latency": "virtual"}}


def _raise(error):
    raise error


@pytest.fixture
def broken(tmp_path, scenario, break_off, always):
    """A log with an episode that was saved, went on, and was stopped with its files written."""
    with Log.open(tmp_path / "a.db") as log:
        break_off(700)
        assert play(scenario(TAPED), log=log, saving=always).interrupted
        break_off(None)
        (row,) = log.episodes()
        assert {file.kind for file in log.artifacts(row.id)} == {"queries", "sample-queries"}
        yield log, row


@pytest.mark.parametrize(
    "ending",
    [
        lambda *_, **__: None,  # another process took it up
        lambda *_, **__: _raise(LogError("the disk is full")),
        lambda *_, **__: _raise(KeyboardInterrupt),
    ],
    ids=["taken by another", "full disk", "stopped"],
)
def test_an_episode_that_is_not_taken_up_after_all_keeps_its_files(
    broken, scenario, always, monkeypatch, ending
):
    log, row = broken
    before = {file.path: file.sha256 for file in log.artifacts(row.id)}
    monkeypatch.setattr(Log, "reopen_episode", ending)
    with suppress(LogError):  # ends the command
        play(scenario(TAPED), log=log, saving=always)
    assert {file.path: file.sha256 for file in log.artifacts(row.id)} == before
    assert check(log) == []


def test_files_after_the_save_go_with_their_rows_once_it_is_taken_up(
    broken, scenario, break_off, always
):
    log, row = broken
    break_off(690)  # it is stopped in its first round, before a shard is full
    assert play(scenario(TAPED), log=log, saving=always).interrupted
    assert check(log) == []
    break_off(None)
    (again,) = play(scenario(TAPED), log=log, saving=always).episodes
    assert (again.id, again.status) == (row.id, "success")
    assert check(log) == []
    assert not SaveStore(log.where).folder.exists()
