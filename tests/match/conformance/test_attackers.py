"""The suite lets attackers pass that keep the rules, and finds those that break them."""

from functools import partial

import pytest
import torch

from agents.attackers.dfme import DFME
from agents.attackers.noise import Noise
from agents.attackers.random_generator import RandomGenerator
from agents.base import ArchitectureGuess, Attacker
from arena.conformance import (
    assert_conforms,
    check_attacker,
)
from arena.conformance.plays import PATIENCE
from envs.errors import QueryError


def broken(findings) -> set[str]:
    return {finding.name for finding in findings if not finding.passed}


def detail(findings, name: str) -> str:
    return next(finding.detail for finding in findings if finding.name == name)


@pytest.mark.parametrize(
    "make",
    [
        Noise,
        RandomGenerator,
        DFME,
        pytest.param(partial(DFME, batch=16), marks=pytest.mark.slow),
    ],
)
def test_the_built_in_attackers_conform(make):
    assert_conforms(make)


@pytest.mark.slow
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
