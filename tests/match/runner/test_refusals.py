"""A defender that refuses and cuts accounts off, through a whole match: ledger, log, replays."""

import json
from dataclasses import asdict

import pytest
import torch
from sqlalchemy import text
from typer.testing import CliRunner

from agents import Attacker, Countermeasure, Defender, Refused
from arena.cli.app import app
from arena.log.checking import check
from arena.log.store import Log
from arena.recording.excerpts import excerpt
from arena.replay.counterfactual import answer_with
from arena.replay.verify import verify
from arena.runner.match import play

ACCOUNTS = {"budget": 1000, "accounts": 5, "account_policy": "round-robin"}


class Greedy(Defender):
    """Refuses an account between 60 and 90 images, answers it slowly then, and ends it at 150."""

    def begin(self, kit):
        self.asked = {}

    def act(self, view):
        asked = self.asked[view.account] = self.asked.get(view.account, 0) + len(view.images)
        if asked > 150:
            return Countermeasure(cut_off=True)
        if 60 < asked <= 90:
            return Countermeasure(refuse=True)
        return Countermeasure(delay=0.5, rate=200.0) if asked > 90 else Countermeasure()


class Stubborn(Attacker):
    """Asks whatever was refused, as long as there is an account."""

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        self.step = 0
        self.resume(oracle, kit)

    def resume(self, oracle, kit):
        while oracle.remaining >= 20:
            kit.safe_point()
            self.step += 1
            try:
                shape = (20, *oracle.threat.image_shape)
                oracle.query(torch.rand(shape, generator=kit.generator))
            except Refused as refusal:
                kit.note("refused", str(refusal), charged=refusal.charged, step=self.step)
                if refusal.is_closed and not oracle.remaining:
                    return


@pytest.fixture
def refusing(tmp_path, scenario):
    """Make the scenario of this module's defender, and of its attacker where it is wanted."""

    def make(attacker="noise", defence="undefended", **threat):
        path = tmp_path / "players.py"
        path.write_text(
            "import importlib.util\n"
            f"spec = importlib.util.spec_from_file_location('of_tests', {__file__!r})\n"
            "module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "Greedy, Stubborn = module.Greedy, module.Stubborn\n"
        )
        use = attacker if attacker.islower() else f"{path}:{attacker}"
        return scenario(
            {
                "attackers": [{"name": "attacker", "use": use}],
                "defenders": [{"name": "greedy", "use": f"{path}:Greedy", "defence": defence}],
                "threat": {**ACCOUNTS, **threat},
                "traffic": {"benign": 0.25, "clients": 1},
            },
            record="queries",
        )

    return make


def event(log, id, kind="refused"):
    return [one for one in log.events(id) if one.kind == kind][-1]


@pytest.mark.parametrize("refused", ["charged", pytest.param("free", marks=pytest.mark.slow)])
def test_a_match_with_refusals_adds_up_and_repeats(tmp_path, refusing, refused):
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(refusing("Stubborn", refused=refused), log=log).episodes
        assert (row.status, row.error) == ("success", None)
        assert row.clone_accuracy is not None
        told = event(log, row.id).data
        assert told["attack"] > 0
        assert told["accounts_cut_off_count"] == 5
        # benign users meet the same measures, and what is refused has been served wrong
        assert (told["benign_cut_off_count"], told["benign"] > 0) == (1, True)
        assert row.served_accuracy < row.victim_accuracy - 0.1
        charged = row.attack_answered + (told["attack"] if refused == "charged" else 0)
        assert row.queries_used == charged < 1000
        assert sum(one.queries_used for one in log.accounts(row.id)) == charged
        buckets = log.rounds(row.id)
        counted = [bucket.countermeasure.get("attack_refused", 0) for bucket in buckets]
        assert sum(counted) == told["attack"]
        settings = [one for bucket in buckets for one in bucket.countermeasure["attack"]]
        assert sum(one.get("refused", 0) for one in settings) == told["attack"]
        assert {"refuse", "cut_off", "delay", "rate"} <= {key for one in settings for key in one}
        assert sum(one["answered"] for one in settings) == row.attack_answered
        assert check(log) == []
        taped = excerpt(log, row.id, 1, 1000)
        assert taped.total == row.queries_used
        gone = [query for query in taped.queries if not query.posteriors.any()]
        assert len(gone) == (told["attack"] if refused == "charged" else 0)
        assert {(query.exit, query.seconds) for query in gone} <= {(None, None)}
        found = verify(log, row.id, trust_plugins=True)
        assert found.same, [*map(str, found.differences), found.tape_fault]
        assert check(log) == []


@pytest.mark.parametrize("attacker", ["noise", "dual-students"])
def test_an_attacker_that_knows_no_refusals_ends_with_the_clone_that_it_has(
    tmp_path, refusing, attacker
):
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(refusing(attacker), log=log).episodes
        assert (row.status, row.error) == ("success", None)
        assert row.clone_accuracy is not None
        told = event(log, row.id).data
        # each account refuses its next request, and the policy tries all before it gives up
        assert row.queries_used < 1000
        assert told["attack"] > 0
        assert check(log) == []


def test_a_changed_number_of_refusals_is_found(tmp_path, refusing):
    with Log.open(tmp_path / "a.db") as log:
        play(refusing("Stubborn"), log=log)
        with log.engine.begin() as connection:
            (number, told) = connection.execute(text(
                "SELECT bucket, countermeasure FROM round WHERE countermeasure LIKE "
                "'%attack_refused%' LIMIT 1"
            )).one()  # fmt: skip
            told = json.loads(told)
            told["attack_refused"] -= 1
            connection.execute(
                text("UPDATE round SET countermeasure = :told WHERE bucket = :number"),
                {"told": json.dumps(told), "number": number},
            )
        messages = [problem.message for problem in check(log)]
        assert any("does not follow on the one before it" in line for line in messages)


@pytest.mark.parametrize("queries", [640, pytest.param(300, marks=pytest.mark.slow)])
def test_an_episode_broken_off_goes_on_with_its_accounts_closed_as_they_were(
    tmp_path, refusing, break_off, always, queries
):
    scenario = refusing("Stubborn")
    with Log.open(tmp_path / "whole.db") as log:
        (whole,) = play(scenario, log=log).episodes
        wanted = [asdict(bucket) for bucket in log.rounds(whole.id)]
        closed = event(log, whole.id).data
    with Log.open(tmp_path / "a.db") as log:
        break_off(queries)
        (cut,) = play(scenario, log=log, saving=always).episodes
        assert cut.status == "cancelled"
        break_off(None)
        (row,) = play(scenario, log=log, saving=always).episodes
        assert row.status == "success", row.error
        found = [asdict(bucket) for bucket in log.rounds(row.id)]
        for one in (*wanted, *found):
            del one["attack_seconds"], one["benign_seconds"]
        assert found == wanted
        assert event(log, row.id).data == closed
        assert row.served_accuracy == whole.served_accuracy
        assert check(log) == []


@pytest.mark.slow
def test_a_what_if_asks_what_was_refused_and_survives_a_defender_that_refuses(tmp_path, refusing):
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(refusing("Stubborn"), log=log).episodes
        for defender, least in (("undefended", 1000), ("greedy", 0)):
            found = answer_with(log, row.id, defender, trust_plugins=True)
            assert found.episode.status == "success", found.episode.error
            assert found.episode.queries_used >= min(least, row.queries_used)
            # the same images are answered as they were then, whoever was refused
            assert (found.agreement, found.distance) == (1.0, 0.0)


def test_a_what_if_that_refuses_everything_compares_no_answers(tmp_path, scenario):
    silent = {"pieces": [{"from": 0, "refuse": True}]}
    where = tmp_path / "a.db"
    with Log.open(where) as log:
        defenders = [{"name": "silent", "use": "schedule", "policy": silent}, {"name": "bare"}]
        small = {"defenders": defenders, "threat": {"budget": 200}}
        of = {
            row.defender: row.id
            for row in play(scenario(small, record="queries"), log=log).episodes
        }
        found = answer_with(log, of["bare"], "silent")
        assert (found.agreement, found.distance) == (None, None)
        assert answer_with(log, of["bare"], "bare").agreement == 1.0
    told = CliRunner().invoke(
        app, ["replay", of["silent"], "--against", "bare", "--log", str(where)]
    )
    assert "no image was answered by both" in told.output
    assert "recorded label: 0.0 %" not in told.output
