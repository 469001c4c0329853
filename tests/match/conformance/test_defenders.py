"""The suite lets defenders pass that keep the rules, and finds those that break them."""

from functools import partial

import pytest
import torch

from agents.base import Defender
from agents.defenders.static import Static
from arena.conformance import (
    assert_conforms,
    check_defender,
)
from envs.game.rounds import Countermeasure


def broken(findings) -> set[str]:
    return {finding.name for finding in findings if not finding.passed}


def detail(findings, name: str) -> str:
    return next(finding.detail for finding in findings if finding.name == name)


class Alternating(Defender):
    """A benign defender that draws its chance from its stream."""

    def begin(self, kit):
        self.deployed_defences, self.generator = len(kit.deployed_defences), kit.generator

    def act(self, view):
        deployed_defence = int(torch.randint(self.deployed_defences, (), generator=self.generator))
        return Countermeasure(deployed_defence, 0.5)


def test_the_built_in_defender_and_one_by_chance_conform():
    assert_conforms(Static)
    assert_conforms(Alternating)


def test_a_defender_that_cannot_sit_is_found():
    findings = check_defender(partial(Static, defence=2))
    assert broken(findings) == {"begins"}
    assert "1 deployed defences" in detail(findings, "begins")


@pytest.mark.parametrize(
    ("decide", "told"),
    [
        (lambda: Countermeasure(3), "no defence 3"),
        (lambda: Countermeasure(-1), "got -1"),
        (lambda: Countermeasure(0, 1.5), "got 1.5"),
        (lambda: Countermeasure(0, float("nan")), "got nan"),
        (lambda: None, "got NoneType"),
    ],
)
def test_illegal_countermeasures_are_found(decide, told):
    class Illegal(Defender):
        def act(self, view):
            return decide()

    findings = check_defender(Illegal)
    assert "decides" in broken(findings)
    assert told in detail(findings, "decides")


def test_chance_of_a_defender_from_elsewhere_is_found():
    class Loose(Defender):
        def act(self, view):
            return Countermeasure(0, float(torch.rand(1)))

    assert {"repeats", "global-state"} <= broken(check_defender(Loose))


def test_a_defender_whose_copy_is_no_copy_is_found():
    class Shared(Defender):
        def begin(self, kit):
            Shared.served = 0

        def act(self, view):
            return Countermeasure(0, 1 / (1 + Shared.served))

        def learn(self, served):
            Shared.served += 1

    assert broken(check_defender(Shared)) == {"copies"}
