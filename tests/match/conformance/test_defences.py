"""The suite lets defences pass that keep the rules, and finds those that break them."""

import pytest
import torch

from agents.defenders.static import Static
from arena.conformance import (
    assert_conforms,
    check,
    check_defence,
)
from envs.defences.base import Defence


def broken(findings) -> set[str]:
    return {finding.name for finding in findings if not finding.passed}


def detail(findings, name: str) -> str:
    return next(finding.detail for finding in findings if finding.name == name)


class Half(Defence):
    """A benign defence: moves each posterior half way to uniform, at full strength."""

    epsilon = 1.0

    def perturb_posteriors(self, posteriors, serving):
        share = 0.5 * serving.strength
        return (1 - share) * posteriors + share / posteriors.shape[1]


def test_the_undefended_victim_and_a_benign_defence_conform():
    assert_conforms(Defence)
    assert_conforms(Half)


def test_a_defence_by_chance_conforms_if_the_chance_is_the_streams():
    class Coin(Half):
        def perturb_posteriors(self, posteriors, serving):
            count = (len(posteriors), 1)
            coins = torch.rand(count, generator=serving.generator, device=posteriors.device).round()
            return posteriors + coins * (
                super().perturb_posteriors(posteriors, serving) - posteriors
            )

    findings = check_defence(Coin)
    assert broken(findings) == set()
    assert "by chance" in detail(findings, "batches")


def test_a_defence_that_cannot_harden_is_found():
    class Failing(Defence):
        def harden(self, victim, kit):
            raise ZeroDivisionError("oops")

    assert broken(check_defence(Failing)) == {"hardens"}


@pytest.mark.parametrize(
    ("perturb", "epsilon", "told"),
    [
        (lambda p, s: p + 0.1 * s.strength, 2.0, "sums 1.5"),
        (
            lambda p, s: p - 0.5 * s.strength * p + 0.5 * s.strength * p.flip(1),
            0.01,
            "epsilon 0.01",
        ),
        (lambda p, s: p.double() if s.strength else p, 2.0, "float64"),
        (lambda p, s: p[:, :-1] if s.strength else p, 2.0, "(1, 4)"),
    ],
)
def test_answers_off_the_simplex_or_the_l1_budget_are_found(perturb, epsilon, told):
    class Faulty(Defence):
        def perturb_posteriors(self, posteriors, serving):
            return perturb(posteriors, serving)

    Faulty.epsilon = epsilon
    findings = check_defence(Faulty)
    assert "answers" in broken(findings)
    if told != "(1, 4)":  # the base class itself cannot measure an answer of another width
        assert told in detail(findings, "answers")


def test_a_defence_that_ignores_its_knob_is_found():
    class Always(Half):
        def perturb_posteriors(self, posteriors, serving):
            return 0.5 * posteriors + 0.5 / posteriors.shape[1]

    assert broken(check_defence(Always)) == {"off"}


def test_global_chance_of_a_defence_is_found_twice():
    class Loose(Half):
        def perturb_posteriors(self, posteriors, serving):
            share = 0.5 * serving.strength * torch.rand(len(posteriors), 1).to(posteriors.device)
            return (1 - share) * posteriors + share / posteriors.shape[1]

    assert broken(check_defence(Loose)) == {"repeats", "global-state"}


def test_answers_that_depend_on_who_else_asks_are_found():
    class Mixing(Half):
        def perturb_posteriors(self, posteriors, serving):
            share = 0.5 * serving.strength
            return (1 - share) * posteriors + share * posteriors.mean(0, keepdim=True)

    assert broken(check_defence(Mixing)) == {"batches"}


def test_serving_that_changes_the_victim_is_found():
    class Drifting(Half):
        def perturb_posteriors(self, posteriors, serving):
            next(serving.victim.network.parameters()).data.mul_(1 + 1e-7 + 1e-6)
            return super().perturb_posteriors(posteriors, serving)

    findings = check_defence(Drifting)
    assert "still" in broken(findings)
    assert "serving changed backbone" in detail(findings, "still")


def test_a_latency_that_is_no_time_per_image_is_found():
    class Timeless(Half):
        def perturb_latency(self, latency, serving):
            return -latency

    assert broken(check_defence(Timeless)) == {"latency"}


def test_check_tells_the_kinds_of_players_apart():
    assert {finding.name for finding in check(Static)} >= {"begins", "decides"}
    assert {finding.name for finding in check(Defence)} >= {"hardens", "off"}
    with pytest.raises(TypeError, match="attacker, a defender or a defence, got dict"):
        check(dict)


def test_a_failed_assertion_names_every_broken_claim():
    class Loose(Half):
        def perturb_posteriors(self, posteriors, serving):
            share = 0.5 * serving.strength * torch.rand(len(posteriors), 1).to(posteriors.device)
            return (1 - share) * posteriors + share / posteriors.shape[1]

    with pytest.raises(AssertionError, match=r"breaks 2 claims(.|\n)*repeats: (.|\n)*global-state"):
        assert_conforms(Loose)
    assert_conforms(Loose, except_for={"repeats", "global-state"})


def test_a_knob_that_changes_nothing_is_warned_of():
    assert "WARNING: the knob changes nothing" in detail(check_defence(Defence), "off")
    assert "WARNING" not in detail(check_defence(Half), "off")


def test_a_defence_that_is_on_or_off_says_so():
    class Switch(Half):
        interpolates = False

        def perturb_posteriors(self, posteriors, serving):
            return 0.5 * posteriors + 0.5 / posteriors.shape[1]

    findings = check_defence(Switch)
    assert not broken(findings)
    assert detail(findings, "off") == "is on or off"
