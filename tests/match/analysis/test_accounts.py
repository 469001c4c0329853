"""The curve over accounts: from how many an attack reaches its clone, and who was flagged."""

import json

import pytest
from typer.testing import CliRunner

from arena.analysis.accounts import account_curves
from arena.cli.app import app

# by accounts: the clone of seed 0 and of seed 1, and how many accounts were flagged
PLAYS = {1: (0.2, 0.3, 1), 5: (0.5, 0.9, 5), 30: (0.8, 0.84, 0)}


def alarm(client, *, attacker):
    return "alarm", "it explores", {"data": {"client": client, "attacker": attacker}}


@pytest.fixture(scope="module")
def log(shared_made_up):
    for accounts, (*clones, caught) in PLAYS.items():
        for seed, clone in enumerate(clones):
            threat = {"budget": 1000, "accounts": accounts, "account_policy": "blocks"}
            if accounts == 1:
                del threat["accounts"]  # as older episodes are
            flagged = [alarm(10 + client, attacker=True) for client in range(caught)]
            flagged += [alarm(10, attacker=True), alarm(99, attacker=False)] if caught else []
            shared_made_up.play(
                "dfme", "detector", seed, clone=clone, victim_accuracy=1.0, events=flagged,
                attack_price=1000.0 + 10 * accounts, accounts_used=accounts,
                plan={"threat": threat, "traffic": {"benign": 0.5, "clients": 20}},
            )  # fmt: skip
    shared_made_up.play("dfme", "detector", 7, clone=1.0, victim_accuracy=1.0,
                        plan={"threat": {"budget": 9, "accounts": 2}})  # fmt: skip
    return shared_made_up.log


def test_episodes_that_differ_in_accounts_alone_are_one_curve(log):
    rows = log.episodes()
    curve, other = account_curves(rows, {row.id: log.events(row.id) for row in rows})
    assert [point.accounts for point in curve.points] == [1, 5, 30]
    assert [point.share.mean for point in curve.points] == pytest.approx([0.25, 0.7, 0.82])
    assert [point.caught for point in curve.points] == [1, 5, 0]
    # of 20 clients in each of two episodes the same one is flagged
    assert [point.flagged.mean for point in curve.points] == [0.05, 0.05, 0]
    assert (curve.needed(0.8), curve.needed(0.7), curve.needed(0.9)) == (30, 5, None)
    assert [point.accounts for point in other.points] == [2]  # of another budget


def test_attacks_from_another_pool_are_another_curve(made_up):
    for pool, accounts in (("strokes", 2), ("uniform", 2), ("strokes", 3)):
        threat = {"budget": 1000, "accounts": accounts, "pool": {"use": pool}}
        made_up.play("knockoff", "detector", plan={"threat": threat}, victim_accuracy=1.0)
    curves = account_curves(made_up.log.episodes(), {})
    assert [[point.accounts for point in one.points] for one in curves] == [[2, 3], [2]]
    assert [one.title for one in curves] == [
        "knockoff / detector, threat.pool.use=strokes",
        "knockoff / detector, threat.pool.use=uniform",
    ]
    told = CliRunner().invoke(app, ["accounts", "--log", made_up.log.where]).stdout
    assert "knockoff / detector, threat.pool.use=uniform: " in told
    assert told.splitlines()[0].split()[-1] == "setting"


def test_an_attack_needs_no_more_accounts_than_it_asked_from(made_up):
    for granted, used, clone in ((1, 1, 0.5), (5, 1, 0.9), (9, 3, 0.9), (30, None, 0.9)):
        threat = {"budget": 1000, "accounts": granted, "account_policy": "one"}
        made_up.play("dfme", "dnf", clone=clone, victim_accuracy=1.0, accounts_used=used,
                     plan={"threat": threat})  # fmt: skip
    (curve,) = account_curves(made_up.log.episodes(), {})
    assert [(point.accounts, point.asked) for point in curve.points] == [
        (1, 1), (5, 1), (9, 3), (30, 30),
    ]  # fmt: skip
    assert (curve.needed(0.8), curve.needed(0.4), curve.needed(0.95)) == (1, 1, None)
    told = CliRunner().invoke(app, ["accounts", "--log", made_up.log.where]).stdout
    assert "dfme / dnf: 1 account until the clone" in told
    assert "1 of 5" in told
    assert "0 of 3" in told


def test_the_command_writes_the_curve_and_what_is_needed(log):
    words = ["accounts", "--log", log.where, "--where", "threat.account_policy=blocks"]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output
    assert "30 accounts until the clone has 80 % of the victim's accuracy" in told.output
    assert "5 of 5" in told.output
    assert "1,300" in told.output
    told = CliRunner().invoke(app, [*words, "--share", "0.95"]).output
    assert "more than 30 accounts until the clone has 95 %" in told
    (curve,) = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert (curve["needed"], [point["accounts"] for point in curve["points"]]) == (30, [1, 5, 30])
    assert [point["price"] for point in curve["points"]] == [1010, 1050, 1300]
