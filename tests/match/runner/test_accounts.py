"""An attack from several accounts, from the scenario to the log and back."""

import inspect
import sqlite3
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from agents.base import Attacker
from arena.analysis import frames
from arena.analysis.scoreboard import scoreboard
from arena.cli.app import app
from arena.log.checking import check
from arena.log.episode_filter import EpisodeFilter
from arena.log.merging import merge
from arena.log.rows import AccountRow
from arena.log.store import Log
from arena.recording.shards import rounds_on_tape
from arena.replay.counterfactual import answer_with
from arena.replay.verify import verify
from arena.runner.match import play
from arena.scenario import Scenario
from envs.errors import QueryError

ACCOUNTS = {
    "accounts": 5,
    "account_budget": 100,
    "account_policy": "round-robin",
    "account_price": 30.0,
    "query_price": 0.5,
    "budget": 400,
}


@pytest.fixture(scope="module")
def played(tmp_path_factory, tiny):
    """A log with an episode of five accounts, and its row."""
    path = tmp_path_factory.mktemp("accounts") / "arena.db"
    with Log.open(path) as log:
        (row,) = play(Scenario.parse(tiny(threat=ACCOUNTS, record="queries")), log=log).episodes
        assert row.status == "success", row.error
        yield log, row


def test_the_log_has_what_each_account_was_charged_and_the_price(played):
    log, row = played
    accounts = log.accounts(row.id)
    assert [(one.account, one.queries_used) for one in accounts] == [(k, 80) for k in range(5)]
    assert len({one.client for one in accounts}) == 5
    assert (row.queries_used, row.accounts_used, row.attack_price) == (400, 5, 350.0)
    assert check(log) == []
    # each account asks in rounds of its own, and the tape tells whose they are
    rounds = list(rounds_on_tape(log, row.id))
    assert len(rounds) == sum(bucket.rounds for bucket in log.rounds(row.id))
    asked = [sum(len(one.images) for one in rounds if one.account == k) for k in range(5)]
    assert asked == [80] * 5


def test_every_reader_of_the_log_shows_accounts(played, tmp_path):
    log, row = played
    (line,) = scoreboard([row])
    assert (line.scores["accounts_used"].mean, line.scores["attack_price"].mean) == (5, 350)
    frame = frames.accounts(log)
    assert frame.queries_used.tolist() == [80] * 5
    assert frame.episode_id.unique().tolist() == [row.id]
    told = {
        words: CliRunner().invoke(app, [*words.split(), "--log", log.where]).output
        for words in (f"episodes show {row.id}", "export accounts", "compare noise noise")
    }
    assert "accounts              5, 80 queries each" in told[f"episodes show {row.id}"]
    assert "price of the attack   350" in told[f"episodes show {row.id}"]
    assert told["export accounts"].count(row.id) == 5
    page = tmp_path / "page.html"
    CliRunner().invoke(app, ["report", "--log", log.where, "-o", str(page)])
    assert "price of the attack" in page.read_text()


def test_a_replay_is_the_same_and_a_what_if_asks_from_the_same_accounts(played):
    log, row = played
    assert verify(log, row.id).same
    found = answer_with(log, row.id, "undefended")
    assert found.agreement == 1.0
    assert log.accounts(found.episode.id) == log.accounts(row.id)


def test_a_merge_takes_accounts_along_and_a_changed_charge_is_found(played, tmp_path):
    log, row = played
    with Log.open(tmp_path / "merged.db") as other:
        merge(other, log)
        assert other.accounts(row.id) == log.accounts(row.id)
        assert check(other) == []
    with sqlite3.connect(tmp_path / "merged.db") as connection:
        connection.execute("UPDATE account SET queries_used = 79 WHERE account = 3")
    connection.close()
    with Log.open(tmp_path / "merged.db") as other:
        told = [fault.message for fault in check(other)]
        verdict = verify(other, row.id)
    assert any("not what its accounts were charged" in line for line in told)
    assert any("was changed, added or removed" in line for line in told)
    different = [str(one) for one in verdict.differences]
    assert different == ["account 3: queries used logged as 79, replayed as 80"]


def test_one_account_leaves_no_trace(tmp_path, tiny):
    with Log.open(tmp_path / "one.db") as log:
        (row,) = play(Scenario.parse(tiny(threat={"budget": 100})), log=log).episodes
        assert log.accounts(row.id) == []
        (line,) = scoreboard([row])
    assert (row.accounts_used, row.attack_price) == (None, None)
    assert not {"accounts_used", "attack_price"} & set(line.scores)
    assert not any("account" in key for key in row.plan["threat"])


@pytest.mark.parametrize(
    "policy", ["blocks", pytest.param("by-similarity", marks=pytest.mark.slow)]
)
def test_an_episode_broken_off_goes_on_with_its_accounts_as_they_stood(
    tmp_path, scenario, break_off, always, policy
):
    threat = {**ACCOUNTS, "account_policy": policy}
    wanted = scenario({"threat": threat})
    told = []
    for name, points in (("straight", ()), ("resumed", (150, 290))):
        with Log.open(tmp_path / f"{name}.db") as log:
            for point in points:
                break_off(point)
                assert play(wanted, log=log, saving=always).interrupted
                (row,) = log.episodes(EpisodeFilter())
                assert sum(one.queries_used for one in log.accounts(row.id)) == row.queries_used
            break_off(None)
            saving = always if points else replace(always, seconds=0)
            (row,) = play(wanted, log=log, saving=saving).episodes
            assert len(log.episodes(EpisodeFilter())) == 1
            told.append((log.accounts(row.id), row.query_digest, row.answer_digest,
                         row.clone_accuracy, row.attack_price))  # fmt: skip
            assert [fault for fault in check(log) if fault.kind == "fault"] == []
    assert told[0] == told[1]
    assert len(told[0][0]) > 3


class Choosy(Attacker):
    """Asks from the accounts that it likes, and sees what is refused."""

    def attack(self, oracle, kit):
        import torch

        images = torch.rand(60, *oracle.threat.image_shape, generator=kit.generator)
        oracle.query(images, account=4)
        for account in (4, 5, -1, "4", 4.0):
            try:
                oracle.query(images, account=account)
            except QueryError as error:
                kit.note("refused", str(error))
        oracle.query(images[:40], 4)
        oracle.query(images)


def test_an_attacker_names_the_accounts_that_it_asks_from(tmp_path, with_attacker):
    overrides = {f"threat.{key}": value for key, value in ACCOUNTS.items()}
    with Log.open(tmp_path / "named.db") as log:
        (row,) = play(with_attacker("Choosy", **overrides), log=log).episodes
        assert row.status == "success", row.error
        charged = {one.account: one.queries_used for one in log.accounts(row.id)}
        refused = [event.message for event in log.events(row.id) if event.kind == "refused"]
    # the 60 that name no account are dealt in turn; account 4 is spent, so that 0 takes its part
    assert charged == {0: 24, 1: 12, 2: 12, 3: 12, 4: 100}
    assert len(refused) == 5
    assert refused[0].startswith("asked for 60 answers with 40 of the 100 of account 4 left")


@pytest.mark.slow
def test_an_isolated_attacker_names_accounts_as_a_trusted_one(tmp_path, scenario):
    player = tmp_path / "choosy.py"  # the process may not read the tests
    source = "from agents.base import Attacker\nfrom envs.errors import QueryError\n\n\n"
    player.write_text(source + inspect.getsource(Choosy))
    told = []
    for isolation in ("none", "process"):
        overrides = {f"threat.{key}": value for key, value in ACCOUNTS.items()}
        attackers = {"attackers": [{"use": f"{player}:Choosy"}]}
        wanted = scenario(attackers, isolation=isolation, **overrides)
        with Log.open(tmp_path / f"{isolation}.db") as log:
            (row,) = play(wanted, log=log).episodes
            assert row.status == "success", row.error
            notes = [event.message for event in log.events(row.id) if event.kind == "refused"]
            told.append((log.accounts(row.id), row.query_digest, row.answer_digest, notes))
    assert told[0] == told[1]
    assert isinstance(told[0][0][0], AccountRow)
