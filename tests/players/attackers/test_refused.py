"""Whoever is refused before its time hands in what it could learn until then."""

import contextlib

import pytest
import torch

from agents.attackers.active_thief import ActiveThief
from agents.attackers.decoy_filter import DecoyFilter
from agents.attackers.dfme import DFME
from agents.attackers.dfms_hl import DFMSHL
from agents.attackers.dual_students import DualStudents
from agents.attackers.exit_timing import ExitTiming
from agents.attackers.jbda import JBDA
from agents.attackers.knockoff import Knockoff
from agents.attackers.late_knockoff import LateKnockoff
from agents.attackers.latency_filter import LatencyFilter
from agents.attackers.relabelling import Relabelled
from agents.attackers.s4l import S4L
from agents.attackers.strategy_thief import StrategyThief
from agents.learning.transfer_set import bought
from envs.errors import BudgetExhausted, Refused
from envs.types import Response

BUDGET = 400
PHASES = {"gan_epochs": 1, "clone_epochs": 2, "diversity_epochs": 1, "pool": 64}
ATTACKERS = {
    "knockoff": lambda: Knockoff(epochs=1, request=32),
    "knockoff by classes": lambda: Knockoff(epochs=1, request=32, policy="adaptive"),
    "knockoff of two budgets": lambda: Knockoff(epochs=1, request=32, budgets=[200]),
    "s4l": lambda: S4L(epochs=1, request=32),
    "active-thief": lambda: ActiveThief(choices=2, round_epochs=1, epochs=1, request=32),
    "jbda": lambda: JBDA(epochs=1, seeds=20, request=32),
    "late-knockoff": lambda: LateKnockoff(epochs=1, request=32),
    "late-knockoff by time": lambda: LateKnockoff(epochs=1, request=32, by="latency"),
    "decoy-filter": lambda: DecoyFilter(epochs=1, request=32),
    "exit-timing": lambda: ExitTiming(),
    "dfms-hl": lambda: DFMSHL(**PHASES, initial=100, validation=50),
    "dfme": lambda: DFME(batch=16),
    "dual-students": lambda: DualStudents(batch=16),
    "strategy-thief": lambda: StrategyThief(batch=16, look=300),
    "latency-filter": lambda: LatencyFilter(batch=4, look=100, generator_steps=0),
}
CUTS = {"dfms-hl": 70, "decoy-filter": 40, "latency-filter": 20, "exit-timing": 8}


def bright(images):
    return (20 * images.reshape(len(images), 4, -1).mean(2)).softmax(1)


@pytest.fixture
def refusing(fake_oracle):
    """Make an oracle that cuts the account off, or charges one request to two accounts."""

    class Refusing(fake_oracle):
        def __init__(self, *, cut_off=None, lost=None):
            super().__init__(BUDGET, bright)
            self.threat = type(self.threat)(
                **{name: getattr(self.threat, name) for name in ("num_classes", "image_shape")},
                budget=BUDGET, latency_visible=True,
            )  # fmt: skip
            self._cut_off, self._lost = cut_off, lost

        def query(self, images, account=None):
            used = BUDGET - self.remaining
            if self._cut_off is not None and used + len(images) > self._cut_off:
                self.remaining = 0
                raise Refused("cut off", is_closed=True)
            if self._lost is not None and used + len(images) > self._lost:
                # one account refused, and another one answered
                self._lost, self.remaining = None, self.remaining - len(images)
            answers = super().query(images).posteriors
            return Response(answers, torch.full((len(images),), 1e-3, dtype=torch.float64))

    return Refusing


def learned(clone, fresh):
    before, after = fresh.state_dict(), clone.state_dict()
    return not all(torch.equal(after[name], weights) for name, weights in before.items())


@pytest.mark.parametrize("name", ATTACKERS)
def test_an_attacker_that_is_cut_off_learns_from_what_it_was_told(refusing, with_pool, name):
    attacker, kit = ATTACKERS[name](), with_pool()
    oracle = refusing(cut_off=CUTS.get(name, 100))
    with contextlib.suppress(Refused):
        attacker.attack(oracle, kit)
    assert sum(oracle.requests) > 0
    assert learned(attacker.clone, kit.new_clone())


@pytest.mark.parametrize("name", ATTACKERS)
def test_a_charged_refusal_of_one_account_leaves_the_answers_of_the_others(
    refusing, with_pool, name
):
    attacker, kit = ATTACKERS[name](), with_pool()
    oracle = refusing(lost=150)
    with contextlib.suppress(BudgetExhausted):
        attacker.attack(oracle, kit)
    assert sum(oracle.requests) > 100
    assert learned(attacker.clone, kit.new_clone())


@pytest.mark.parametrize("name", ATTACKERS)
def test_without_an_answer_the_clone_is_as_it_began(refusing, with_pool, name):
    attacker, kit = ATTACKERS[name](), with_pool()
    with contextlib.suppress(Refused):
        attacker.attack(refusing(cut_off=0), kit)
    assert not learned(attacker.clone, kit.new_clone())


def test_a_transfer_set_holds_what_came_before_the_budget_ran_out(refusing):
    pixels = torch.randint(256, (BUDGET, 1, 8, 8)).to(torch.uint8)
    answers = bought(refusing(lost=150), pixels, request=64)
    assert len(answers) == 336  # of 400 images 64 are lost, and 16 are left for a smaller request
    assert torch.equal(answers.pixels, pixels[:336])
    with pytest.raises(BudgetExhausted):
        bought(refusing(cut_off=10), pixels, request=64)


def test_a_clone_is_turned_round_where_the_account_is_cut_off(refusing, with_pool, random_pool):
    attacker = Relabelled(labelled=20, batch=16, generator_steps=0)
    attacker.attack(refusing(cut_off=100), with_pool(random_pool(classes=4)))
    assert attacker.turn is not None


def test_what_is_bought_after_a_refusal_is_nothing(refusing, with_pool):
    """A resumed game asks no more than the one that was not broken off."""
    oracle, reports = refusing(cut_off=100), []
    attacker = Knockoff(epochs=1, request=32, budgets=[64, 200])
    attacker.attack(oracle, with_pool(reports=reports))
    assert [report["transfer_set"] for report in reports] == [64, 96]
    assert sum(oracle.requests) == 96
