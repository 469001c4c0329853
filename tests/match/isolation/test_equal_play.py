"""Every attacker of ours plays the same game in its own process as in the arena's."""

import tomllib

import pytest

from arena.registry import players

PHASES = """shares = [1.0, 1.0, 2.0]
phases = [
    { use = "exit-timing", params = { hardware = "cpu" } },
    { use = "noise" },
    { use = "dfme", params = { batch = 16 } },
]
"""
PARAMETERS = {
    "noise": "",
    "random-generator": "batch = 32",
    "dfme": "batch = 16",
    "disguide": "batch = 16\ncapacity = 300",
    "dual-students": "batch = 16",
    "argmax": "batch = 16",
    "averaging": "batch = 16\nrepeats = 2\nduplicates = 'jitter'",
    "recovery": "batch = 16\npairs = 500\nrepeats = 2",
    "inversion": "batch = 16\nlabelled = 40",
    "relabelled": "batch = 16\nlabelled = 40",
    "confidence-filter": "batch = 16\nlook = 60\nconstant = 3.0",
    "latency-filter": "batch = 16\nlook = 60",
    "strategy-thief": "batch = 16\nlook = 300",
    "slowdown": "batch = 16\nsteps = 2",
    "repeats": "images = 5",
    "knockoff": "budgets = [200, 600]\nepochs = 2\nrequest = 50\npolicy = 'adaptive'",
    "active-thief": "choices = 2\nround_epochs = 2\nepochs = 2\nrequest = 50",
    "s4l": "epochs = 2\nrequest = 50",
    "e3": "epochs = 3\nrequest = 50\nalignment = 0.5",
    "jbda": "epochs = 2\nseeds = 40\nvariant = 't-rnd'",
    "maze": "batch = 16\ndirections = 2\nreplays = 2",
    "late-knockoff": "",
    "decoy-filter": "",
    "guard-surrogate": "epochs = 1\nsurrogates = 1\nguard_steps = 5\nmoves = 2\nrequest = 50",
    "rule-finder": "epochs = 1\nsteps = 5\nrequest = 50",
    "dfms-hl": "gan_epochs = 3\nclone_epochs = 2\ndiversity_epochs = 2",
    "campaign": PHASES,
    "exit-timing": "hardware = 'cpu'",
}
WITH_POOL = (
    "inversion", "relabelled", "knockoff", "late-knockoff", "decoy-filter", "active-thief",
    "s4l", "e3", "jbda", "guard-surrogate", "rule-finder",
)  # fmt: skip
QUICK = ("dfme",)


def test_every_registered_attacker_is_played():
    assert set(PARAMETERS) == set(players.attackers.builtin)


@pytest.mark.parametrize(
    "attacker",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PARAMETERS],
)
def test_an_attacker_plays_the_same_game_both_ways(both_ways, attacker):
    player = {"use": attacker, "params": tomllib.loads(PARAMETERS[attacker])}
    threat = {"latency": "virtual"}
    if attacker in WITH_POOL:
        threat["pool"] = {"use": "digits", "params": {"split": "validation"}}
    trusted, isolated = both_ways(attackers=[player], threat=threat, checkpoints=3)
    assert isolated == trusted
    assert trusted["rounds"]


@pytest.mark.slow
@pytest.mark.parametrize("attacker", ["noise", "disguide", "s4l"])
def test_a_clone_with_dropout_is_the_same_both_ways(both_ways, attacker):
    player = {"use": attacker, "params": tomllib.loads(PARAMETERS[attacker])}
    trusted, isolated = both_ways(
        attackers=[player],
        clone={"use": "mobilenetv2-small", "params": {"dropout": 0.2}},
        threat={"pool": {"use": "digits", "params": {"split": "validation"}}},
    )
    assert isolated == trusted
    assert trusted["rounds"]


STUBBORN = """
import torch
from agents import Attacker, Refused

class Stubborn(Attacker):
    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        while oracle.remaining:
            try:
                shape = (min(50, oracle.remaining), 1, 8, 8)
                oracle.query(torch.rand(shape, generator=kit.generator))
            except Refused as refusal:
                told = (refusal.account, refusal.is_closed, refusal.charged, oracle.remaining)
                kit.note("refused", str(refusal), told=list(told))
"""


@pytest.mark.slow
@pytest.mark.parametrize("attacker", ["stubborn", "knockoff"])
def test_refusals_end_the_same_attack_both_ways(both_ways, tmp_path, attacker):
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    player = {"use": f"{tmp_path / 'stubborn.py'}:Stubborn"}
    if attacker == "knockoff":
        player = {"use": "knockoff", "params": tomllib.loads(PARAMETERS["knockoff"])}
    pool = {"use": "digits", "params": {"split": "validation"}}
    pieces = [{"from": 0}, {"from": 300, "refuse": True}]
    defender = {"use": "schedule", "defence": "undefended", "policy": {"pieces": pieces}}
    trusted, isolated = both_ways(
        attackers=[player], defenders=[defender], threat={"pool": pool, "budget": 600},
        traffic={"benign": 0.0},
    )  # fmt: skip
    assert isolated == trusted
    kinds = [event["kind"] for event in trusted["events"]]
    assert kinds.count("refused") == (7 if attacker == "stubborn" else 1)
    if attacker == "knockoff":  # it trains on what it got before
        assert trusted["checkpoints"][-1]["metrics"]["transfer_set"] == 300
