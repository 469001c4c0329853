"""The conformance suite lets benign players pass and finds out each way of breaking the rules."""

import random
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from agents.attackers.dfme import DFME
from agents.attackers.noise import Noise
from agents.attackers.random_generator import RandomGenerator
from agents.base import ArchitectureGuess, Attacker, Defender
from agents.defenders.static import Static
from arena.conformance import (
    assert_conforms,
    check,
    check_attacker,
    check_defence,
    check_defender,
)
from arena.conformance.plays import PATIENCE
from envs.defences.base import Defence
from envs.errors import BudgetExhausted, QueryError
from envs.game.rounds import Countermeasure


def broken(findings) -> set[str]:
    return {finding.name for finding in findings if not finding.passed}


def detail(findings, name: str) -> str:
    return next(finding.detail for finding in findings if finding.name == name)


# attackers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Noise, RandomGenerator, DFME, partial(DFME, batch=16)])
def test_the_built_in_attackers_conform(make):
    assert_conforms(make)


def test_dfme_conforms_on_other_image_shapes():
    assert_conforms(partial(DFME, batch=8), image_shape=(1, 12, 8))


class Forgetful(Attacker):
    """Counts its steps in a local variable, which no save holds."""

    def attack(self, oracle, kit):
        self.clone = kit.new_clone().eval()
        self.resume(oracle, kit)

    def resume(self, oracle, kit):
        step = 0
        while oracle.remaining:
            kit.safe_point()
            count = min(50, oracle.remaining)
            images = torch.rand(count, *oracle.threat.image_shape, generator=kit.generator)
            oracle.query(images * (step % 2))
            step += 1


class Lambdas(Noise):
    def attack(self, oracle, kit):
        self.secret = lambda: None
        super().attack(oracle, kit)

    def resume(self, oracle, kit):
        super().resume(oracle, kit)


def test_an_attacker_that_goes_on_otherwise_than_it_was_saved_is_found_out():
    findings = check_attacker(Forgetful)
    assert broken(findings) == {"resumes"}
    assert "in self" in detail(findings, "resumes")
    assert broken(check_attacker(Lambdas)) == {"resumes"}
    assert "cannot be saved" in detail(check_attacker(Lambdas), "resumes")


class Quick(Attacker):
    """A benign attacker of a few lines; each test below breaks it in one way."""

    batch = 50

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        optimizer = torch.optim.SGD(self.clone.parameters(), lr=0.01)
        while oracle.remaining:
            targets = self.ask(oracle, kit)
            if targets is not None:
                loss = -(targets * self.clone.eval()(self.images).log_softmax(1)).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

    def ask(self, oracle, kit):
        self.images = self.draw(oracle, kit.generator)
        return oracle.query(self.images).posteriors

    def draw(self, oracle, generator):
        count = min(self.batch, oracle.remaining)
        return torch.rand(count, *oracle.threat.image_shape, generator=generator)


def test_an_attacker_of_a_few_lines_conforms():
    assert_conforms(Quick)


def test_an_attacker_may_end_by_an_uncaught_exhaustion_of_the_budget():
    class Greedy(Quick):
        def draw(self, oracle, generator):
            return torch.rand(self.batch, *oracle.threat.image_shape, generator=generator)

    assert_conforms(Greedy)


def test_an_attacker_without_a_clone_passes_by_what_it_infers():
    class Scout(Quick):
        def attack(self, oracle, kit):
            super().attack(oracle, kit)
            self.clone = None
            self.inferred = ArchitectureGuess(exits=2)

    assert_conforms(Scout)


def test_needs_that_nobody_has_heard_of_are_found():
    class Telepath(Quick):
        requires = frozenset({"telepathy"})

    assert broken(check_attacker(Telepath)) == {"requires"}


def test_needs_are_granted_in_the_tiny_world():
    class Prober(Quick):
        requires = frozenset({"latency", "pool"})

        def ask(self, oracle, kit):
            self.images = kit.pool.images(slice(0, min(50, oracle.remaining)))
            self.images = self.images + 0 * torch.rand(1, generator=kit.generator)
            response = oracle.query(self.images.clamp(0, 1))
            assert response.latency.shape == (len(self.images),)
            return response.posteriors

    findings = check_attacker(Prober)
    assert broken(findings) == {"seeded"}  # it asks the same images, whatever the seed
    assert_conforms(Prober, except_for={"seeded"})


def test_an_exception_is_found():
    class Failing(Quick):
        def ask(self, oracle, kit):
            raise ZeroDivisionError("oops")

    findings = check_attacker(Failing)
    assert {"ends", "odd-budgets"} <= broken(findings)
    assert "ZeroDivisionError: oops" in detail(findings, "ends")


def test_an_attacker_that_hangs_on_the_rest_of_a_budget_is_found():
    class Stubborn(Quick):
        def attack(self, oracle, kit):
            self.clone = kit.new_clone()
            while oracle.remaining:
                if oracle.remaining >= 50:
                    self.ask(oracle, kit)

    findings = check_attacker(Stubborn)
    assert broken(findings) == {"odd-budgets"}
    assert f"looked {PATIENCE} times" in detail(findings, "odd-budgets")


def test_an_attacker_that_asks_over_its_budget_forever_is_found():
    class Swallowing(Quick):
        def attack(self, oracle, kit):
            self.clone = kit.new_clone()
            while oracle.remaining:
                try:
                    oracle.query(torch.zeros(50, *oracle.threat.image_shape))
                except Exception:
                    continue

    assert "odd-budgets" in broken(check_attacker(Swallowing))


def test_an_attacker_that_goes_around_the_ledger_is_found():
    class Cheat(Quick):
        def ask(self, oracle, kit):
            targets = super().ask(oracle, kit)
            oracle._GameOracle__game.deployed_defences[0].victim.posteriors(self.images[:1])
            return targets

    findings = check_attacker(Cheat)
    assert broken(findings) == {"ledger"}
    assert "images charged, the victim saw" in detail(findings, "ledger")


def test_images_outside_the_unit_interval_are_found_though_the_refusal_was_caught():
    class Signed(Quick):
        def ask(self, oracle, kit):
            try:
                oracle.query(torch.full((1, *oracle.threat.image_shape), -1.0))
            except QueryError:
                return super().ask(oracle, kit)

    findings = check_attacker(Signed)
    assert broken(findings) == {"legal-queries"}
    assert "values in [0, 1]" in detail(findings, "legal-queries")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda clone: None, "neither a clone nor an inference"),
        (lambda clone: nn.Sequential(clone, nn.Linear(5, 10)), "got (1, 10)"),
        (lambda clone: nn.Sequential(clone, NotANumber()), "NaN"),
        (lambda clone: Absent(), "RuntimeError: no answer"),
    ],
)
def test_a_clone_that_is_none_is_found(spoil, told):
    class Spoiled(Quick):
        def attack(self, oracle, kit):
            super().attack(oracle, kit)
            self.clone = spoil(self.clone)

    # only soft labels, so that the same fault is not found a second time with hard ones
    Spoiled.requires = frozenset({"soft-labels"})
    torch.manual_seed(0)
    findings = check_attacker(Spoiled)
    assert "clone" in broken(findings)
    assert told in detail(findings, "clone")


class NotANumber(nn.Module):
    def forward(self, x):
        return x * float("nan")


class Absent(nn.Module):
    def forward(self, x):
        raise RuntimeError("no answer")


def test_state_that_outlives_an_instance_is_found():
    class Remembering(Quick):
        games: ClassVar[list] = []

        def attack(self, oracle, kit):
            self.games.append(1)
            self.batch = 20 + len(self.games)
            super().attack(oracle, kit)

    assert broken(check_attacker(Remembering)) == {"repeats"}


def test_chance_from_elsewhere_is_found():
    class Unseeded(Quick):
        def draw(self, oracle, generator):
            own = torch.Generator()
            own.seed()
            return super().draw(oracle, own)

    assert broken(check_attacker(Unseeded)) == {"repeats"}


def test_a_seed_of_its_own_is_found():
    class OwnSeed(Quick):
        def attack(self, oracle, kit):
            self.own = torch.Generator().manual_seed(0)
            super().attack(oracle, kit)

        def draw(self, oracle, generator):
            return super().draw(oracle, self.own)

    assert broken(check_attacker(OwnSeed)) == {"seeded"}


def draw_from_everywhere():
    torch.rand(1)
    np.random.rand()
    random.random()


def change_every_setting():
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.set_float32_matmul_precision("high")


@pytest.mark.parametrize(
    ("move", "told"),
    [
        (lambda: torch.manual_seed(0), {"random stream of torch"}),
        (
            draw_from_everywhere,
            {f"random stream of {name}" for name in ("torch", "NumPy", "random")},
        ),
        (
            change_every_setting,
            {"gradient mode", "default dtype", "threads", "matrix precision"},
        ),
    ],
)
def test_global_state_that_was_moved_is_found_and_set_back(move, told):
    class Moving(Quick):
        def attack(self, oracle, kit):
            super().attack(oracle, kit)
            move()

    torch.manual_seed(1)
    before = torch.get_rng_state()
    findings = check_attacker(Moving)
    assert broken(findings) == {"global-state"}
    assert set(detail(findings, "global-state").removeprefix("moved: ").split(", ")) == told
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32
    assert torch.get_num_threads() == 1
    assert torch.get_float32_matmul_precision() == "highest"


def test_an_attacker_that_needs_soft_labels_and_does_not_say_so_is_found():
    class Undeclared(Quick):
        def ask(self, oracle, kit):
            targets = super().ask(oracle, kit)
            if bool((targets == 0).any()):
                raise ValueError("a posterior of 0")
            return targets

    assert "labels" in broken(check_attacker(Undeclared))

    Undeclared.requires = frozenset({"soft-labels"})
    findings = check_attacker(Undeclared)
    assert "is not seated without" in detail(findings, "labels")
    assert "labels" not in broken(findings)


def test_an_attacker_that_takes_the_exits_for_fixed_is_found():
    class Trusting(Quick):
        def ask(self, oracle, kit):
            images = self.draw(oracle, kit.generator)
            self.images = images[: max(1, len(images) // 2)]
            first = oracle.query(self.images).posteriors
            if oracle.remaining >= len(self.images):
                assert torch.equal(first, oracle.query(self.images).posteriors), "answers changed"
            return first

    findings = check_attacker(Trusting)
    assert broken(findings) == {"changing-exits"}
    assert "AssertionError: answers changed" in detail(findings, "changing-exits")


def test_an_attacker_that_insists_after_a_refusal_is_found():
    class Insisting(Quick):
        def ask(self, oracle, kit):
            try:
                return super().ask(oracle, kit)
            except BudgetExhausted:
                return None

    findings = check_attacker(Insisting)
    assert broken(findings) == {"refused"}
    assert "refused from 250 on" in detail(findings, "refused")


# defences -------------------------------------------------------------------------------------


class Half(Defence):
    """A benign defence: moves each posterior half way to uniform, at full strength."""

    epsilon = 1.0

    def perturb_posteriors(self, posteriors, serving):
        share = 0.5 * serving.strength
        return (1 - share) * posteriors + share / posteriors.shape[1]


def test_the_undefended_victim_and_an_benign_defence_conform():
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


# defenders ------------------------------------------------------------------------------------


class Alternating(Defender):
    """A benign defender that draws its chance from its stream."""

    def begin(self, deployed_defences, generator):
        self.deployed_defences, self.generator = deployed_defences, generator

    def act(self, view):
        deployed_defence = int(torch.randint(self.deployed_defences, (), generator=self.generator))
        return Countermeasure(deployed_defence, 0.5)


def test_the_built_in_defender_and_one_by_chance_conform():
    assert_conforms(Static)
    assert_conforms(Alternating)


def test_a_defender_that_cannot_sit_is_found():
    findings = check_defender(partial(Static, defence=2))
    assert broken(findings) == {"sits"}
    assert "1 deployed_defences" in detail(findings, "sits")


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (Countermeasure(3), "no defence 3"),
        (Countermeasure(-1), "no defence -1"),
        (Countermeasure(0, 1.5), "got 1.5"),
        (Countermeasure(0, float("nan")), "got nan"),
        (None, "got NoneType"),
    ],
)
def test_illegal_countermeasures_are_found(decision, told):
    class Illegal(Defender):
        def act(self, view):
            return decision

    findings = check_defender(Illegal)
    assert "decides" in broken(findings)
    assert told in detail(findings, "decides")


def test_a_defender_that_changes_images_in_place_is_found():
    class Painting(Static):
        def act(self, view):
            view.images.mul_(0.5)
            return super().act(view)

    assert broken(check_defender(Painting)) == {"decides"}


def test_a_defender_that_changes_answers_in_place_is_found():
    class Forging(Static):
        def learn(self, served):
            served.posteriors.fill_(0.2)

    findings = check_defender(Forging)
    assert broken(findings) == {"decides"}
    assert "wrote into the answers" in detail(findings, "decides")


def test_chance_of_a_defender_from_elsewhere_is_found():
    class Loose(Defender):
        def act(self, view):
            return Countermeasure(0, float(torch.rand(1)))

    assert {"repeats", "global-state"} <= broken(check_defender(Loose))


def test_a_defender_whose_copy_is_no_copy_is_found():
    class Shared(Defender):
        def begin(self, deployed_defences, generator):
            Shared.served = 0

        def act(self, view):
            return Countermeasure(0, 1 / (1 + Shared.served))

        def learn(self, served):
            Shared.served += 1

    assert broken(check_defender(Shared)) == {"copies"}


# the door -------------------------------------------------------------------------------------


def test_one_door_tells_the_kinds_of_players_apart():
    assert {finding.name for finding in check(Static)} >= {"sits", "decides"}
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
