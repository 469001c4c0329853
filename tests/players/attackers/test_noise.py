"""The smallest attacker, and the defender that never changes its mind."""

import pytest
import torch

from agents.attackers.noise import Noise
from agents.base import granted
from agents.defenders.static import Static
from agents.learning.schedules import StepDecay
from arena.conformance import defender_kit
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, View


def test_noise_is_uniform_in_the_unit_interval(fake_oracle, kit):
    seen = []
    Noise().attack(fake_oracle(640, listen=seen.append), kit())
    values = torch.cat(seen).flatten()
    assert float(values.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(values.var()) == pytest.approx(1 / 12, abs=0.005)


@pytest.mark.parametrize("budget", [1, 7, 64, 65, 333])
def test_noise_spends_the_whole_budget(fake_oracle, kit, budget):
    oracle = fake_oracle(budget)
    Noise().attack(oracle, kit(clone="resnet10-half"))
    assert oracle.remaining == 0
    assert max(oracle.requests) <= 64


def test_rates_fall_by_epochs_that_are_counted_from_one(fake_oracle, kit, monkeypatch):
    begun = []
    monkeypatch.setattr(StepDecay, "begin", lambda decay, epoch: begun.append(epoch))
    attacker = Noise(batch=1)
    attacker.attack(fake_oracle(600), kit())
    of_an_epoch = attacker._settings.clone_steps * attacker._settings.epoch_length
    assert begun == ([1] * of_an_epoch + [2] * of_an_epoch + [3] * 600)[:600]


@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_noise_copies_what_the_victim_does_on_noise(game, kit, agrees, labels):
    match, oracle = game(4_000, labels)
    attacker = Noise(batch=32, clone_rate=0.1)
    granted(attacker, labels=labels, latency_visible=False, pool=False)
    attacker.attack(oracle, kit())
    assert agrees(match, attacker.clone) > 0.75
    assert not attacker.clone.training


def view() -> View:
    return View(torch.zeros(2, 1, 8, 8), client=0, answered=0)


def test_static_decides_as_it_was_told():
    defender = Static(strength=0.5, defence=1)
    defender.begin(defender_kit())
    assert defender.act(view()) == Countermeasure(1, 0.5)
    assert Static().act(view()) == Countermeasure(0, 1.0)


def test_static_refuses_a_post_that_nobody_brought():
    with pytest.raises(PlayerError, match="uses defence 2, but the scenario brought 2"):
        Static(defence=2).begin(defender_kit())


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_static_refuses_a_strength_out_of_range(strength):
    with pytest.raises(PlayerError, match="strength from 0 to 1"):
        Static(strength=strength)
