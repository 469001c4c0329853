"""The log tells, bucket by bucket, which of a defender's settings answered whom."""

import pickle

import torch

from arena.log.store import Log
from arena.replay.verify import verify
from arena.runner.countermeasures import SETTINGS, CountermeasureCounts
from arena.runner.match import play
from arena.scenario import Scenario
from envs.game.rounds import AnsweredRequest, Countermeasure, Round

SCHEDULED = {
    "version": 1,
    "name": "scheduled",
    "data": "digits",
    "seeds": [0],
    "victim": {"use": "conv-small", "recipe": {"epochs": 1}},
    "clone": {"use": "mlp-small"},
    "threat": {"budget": 600},
    "traffic": {"benign": 0.25},
    "attackers": [{"use": "noise"}],
    "defenders": [
        {
            "use": "schedule",
            "defence": ["undefended", {"use": "truncation", "params": {"decimals": 1}}],
            "policy": {"pieces": [{"from": 0}, {"from": 400, "defence": 1, "strength": 0.5}]},
        }
    ],
}


def request(count, defence=0, strength=1.0, client=0):
    images = torch.zeros(count, 1, 1, 1)
    blank = torch.zeros(count)
    return AnsweredRequest(images, client, Countermeasure(defence, strength), blank, blank)


def a_round(number, attack, *benign):
    return Round(number, attack, benign, attack.posteriors)


def test_settings_are_counted_in_the_order_of_first_use_and_then_from_zero():
    counts = CountermeasureCounts()
    counts.on_round(a_round(4, request(10), request(2, 1, client=3)))
    counts.on_round(a_round(5, request(7, 1, 0.5)))
    counts.on_round(a_round(6, request(5), request(1, 1, client=2)))
    assert counts.take() == {
        "attack": [
            {"defence": 0, "strength": 1.0, "first_round": 4, "answered": 15},
            {"defence": 1, "strength": 0.5, "first_round": 5, "answered": 7},
        ],
        "benign": [{"defence": 1, "strength": 1.0, "first_round": 4, "answered": 3}],
    }
    assert counts.take() == {"attack": [], "benign": []}


def test_a_knob_that_turns_at_every_round_fills_no_log():
    counts = CountermeasureCounts()
    for number in range(1000):
        counts.on_round(a_round(number, request(2, 0, number / 1000)))
    taken = counts.take()
    assert len(taken["attack"]) == SETTINGS
    assert taken["attack_others"] == 2 * (1000 - SETTINGS)
    assert "benign_others" not in taken


def test_the_log_shows_at_which_round_a_schedule_turned_its_knob(tmp_path):
    with Log.open(tmp_path / "arena.db") as log:
        (row,) = play(Scenario.parse(SCHEDULED), log=log).episodes
        assert row.status == "success", row.error
        buckets = log.rounds(row.id)
        assert row.exit_names == (("whole network",), ("whole network",))
        answered = 0
        for bucket in buckets:
            assert bucket.rounds == 1
            late = answered + bucket.benign_answered >= 400  # benign users are answered first
            assert bucket.countermeasure["attack"] == [
                {
                    "defence": int(late),
                    "strength": 0.5 if late else 1.0,
                    "first_round": bucket.first_round,
                    "answered": bucket.attack_answered,
                }
            ]
            answered += bucket.benign_answered + bucket.attack_answered
        assert answered > 400
        for bucket in buckets:
            told = bucket.countermeasure
            assert sum(one["answered"] for one in told["attack"]) == bucket.attack_answered
            assert sum(one["answered"] for one in told["benign"]) == bucket.benign_answered
        assert verify(log, row.id).same


def test_what_was_counted_survives_a_save():
    counts = CountermeasureCounts()
    counts.on_round(a_round(4, request(10)))
    again = pickle.loads(pickle.dumps(counts))
    for one in (counts, again):
        one.on_round(a_round(5, request(1, 1)))
    assert again.take() == counts.take()
