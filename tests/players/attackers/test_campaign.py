"""Campaigns: one budget, shared findings, a clone of the inferred architecture."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.campaign import Campaign, likeliest, merged
from agents.attackers.noise import Noise
from agents.base import ArchitectureGuess, Attacker, granted
from envs.errors import PlayerError, ScenarioError
from envs.types import ThreatModel


class Phase(Attacker):
    """Asks single images until nothing is left, or for a number of images."""

    def __init__(self, *, stop=10**9, guess=None, leave=None, clone=True):
        self.stop, self.guess, self.leave, self.clones = stop, guess, leave or {}, clone
        self.seen = {}

    def attack(self, oracle, kit):
        self.allowed, self.seen = oracle.remaining, dict(kit.shared_findings)
        if self.clones:
            self.clone = kit.new_clone()
        for _ in range(min(self.stop, oracle.remaining)):
            oracle.query(torch.rand(1, 1, 8, 8, generator=kit.generator))
        self.inferred = self.guess
        kit.shared_findings.update(self.leave)


class Greedy(Phase):
    def attack(self, oracle, kit):
        super().attack(oracle, kit)
        oracle.query(torch.rand(1, 1, 8, 8))


def test_phases_share_one_budget(fake_oracle, kit):
    phases = [Phase(), Phase(), Phase()]
    oracle = fake_oracle(100)
    Campaign(phases=phases, shares=[0.2, 0.5, 0.3]).attack(oracle, kit())
    assert [phase.allowed for phase in phases] == [20, 50, 30]
    assert oracle.remaining == 0


def test_what_a_phase_leaves_goes_to_those_after_it(fake_oracle, kit):
    phases = [Phase(stop=5), Phase()]
    oracle = fake_oracle(100)
    Campaign(phases=phases).attack(oracle, kit())
    assert [phase.allowed for phase in phases] == [50, 95]
    assert oracle.remaining == 0


def test_a_phase_that_wants_more_ends_itself_alone(fake_oracle, kit):
    phases = [Greedy(), Phase()]
    Campaign(phases=phases).attack(fake_oracle(10), kit())
    assert phases[1].allowed == 5


def test_findings_are_handed_on(fake_oracle, kit):
    guess = ArchitectureGuess(exits=3, confidence={"exits": 0.9})
    phases = [Phase(guess=guess, leave={"thresholds": (0.9,)}), Phase()]
    campaign = Campaign(phases=phases)
    campaign.attack(fake_oracle(10), kit())
    assert phases[0].seen == {}
    assert phases[1].seen == {"thresholds": (0.9,), "inferred": guess}
    assert campaign.inferred == guess
    assert campaign.clone is phases[1].clone


def test_a_phase_without_a_clone_leaves_the_one_there_is(fake_oracle, kit):
    phases = [Phase(), Phase(clone=False)]
    campaign = Campaign(phases=phases)
    campaign.attack(fake_oracle(10), kit())
    assert campaign.clone is phases[0].clone


def test_the_referee_sees_the_clone_of_the_phase_that_plays(fake_oracle, kit):
    seen = []
    campaign = Campaign(phases=[Noise(batch=5), Noise(batch=5)])
    oracle = fake_oracle(40, listen=lambda images: seen.append(campaign.clone))
    campaign.attack(oracle, kit())
    # before each answer the referee sees what was there after the one before
    assert seen[0] is None
    assert len({id(clone) for clone in seen[1:]}) == 2


@pytest.mark.parametrize(
    ("architecture", "expected"),
    [("resnet10-half", "resnet10"), ("resnet50", "mlp-small"), ("unheard-of", "mlp-small")],
)
def test_clones_are_built_as_the_victim_was_found_to_be(fake_oracle, kit, architecture, expected):
    guess = ArchitectureGuess(architecture=architecture)
    phases = [Phase(guess=guess), Phase()]
    Campaign(phases=phases).attack(fake_oracle(10), kit())
    assert phases[0].clone.architecture == "mlp-small"
    assert phases[1].clone.architecture.startswith(expected)
    told = [Phase(guess=guess), Phase()]
    Campaign(phases=told, adopt=False).attack(fake_oracle(10), kit())
    assert told[1].clone.architecture == "mlp-small"


@pytest.mark.parametrize(
    ("guess", "found", "expected"),
    [
        # the ladder does not tell a width: of two about as likely, the wider
        ({"family": "resnet", "depth": 10}, {"resnet10-half": 0.6, "resnet10": 0.4}, "resnet10"),
        ({"family": "resnet", "depth": 10}, {"resnet10-half": 0.9, "resnet10": 0.1},
         "resnet10-half"),
        ({"family": "resnet", "depth": 10}, {"mlp-small": 1.0}, None),
        ({"family": "resnet", "depth": 18}, {"resnet10": 1.0}, None),
        ({"family": "resnet"}, {"resnet10": 1.0}, None),
        ({"family": "resnet", "depth": 10}, None, None),
    ],
)  # fmt: skip
def test_family_and_depth_choose_the_likeliest_network(guess, found, expected):
    threat = ThreatModel(10, (1, 8, 8), 100)
    shared_findings = {} if found is None else {"architectures": found}
    assert likeliest(ArchitectureGuess(**guess), shared_findings, threat) == expected


def test_a_phase_that_knows_family_and_depth_decides_the_clones_after_it(fake_oracle, kit):
    guess = ArchitectureGuess(family="resnet", depth=10)
    phases = [Phase(guess=guess, leave={"architectures": {"resnet10-half": 0.9}}), Phase()]
    Campaign(phases=phases).attack(fake_oracle(10), kit())
    assert phases[1].clone.architecture == "resnet10-half"
    assert phases[1].seen["adopted"] == "resnet10-half"


def test_a_later_guess_fills_in_and_overrules():
    before = ArchitectureGuess(exits=4, family="resnet", confidence={"exits": 0.5})
    after = ArchitectureGuess(exits=5, confidence={"exits": 0.9})
    both = merged(before, after)
    assert (both.exits, both.family, both.confidence["exits"]) == (5, "resnet", 0.9)
    assert merged(None, after) is after
    assert replace(before, family=None).family is None


def test_a_campaign_needs_what_its_phases_need():
    class Timer(Phase):
        requires = frozenset({"latency"})

    with pytest.raises(PlayerError, match="needs latency"):
        granted(
            Campaign(phases=[Phase(), Timer()]), labels="soft", latency_visible=False, pool=False
        )


@pytest.mark.parametrize("shares", [[1.0], [1.0, 0.0], [0.5, -0.5]])
def test_shares_that_do_not_fit_are_refused(shares):
    with pytest.raises(ScenarioError, match="a share above 0 for each of 2 phases"):
        Campaign(phases=[Phase(), Phase()], shares=shares)
