"""The suite finds attackers with broken clones, hidden state or chance of their own."""

import random
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import nn

from agents.base import Attacker
from arena.conformance import (
    check_attacker,
)
from envs.errors import BudgetExhausted


def broken(findings) -> set[str]:
    return {finding.name for finding in findings if not finding.passed}


def detail(findings, name: str) -> str:
    return next(finding.detail for finding in findings if finding.name == name)


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
    moved, *hint = detail(findings, "global-state").removeprefix("moved: ").split("; ")
    assert set(moved.split(", ")) == told
    assert ("dropout" in str(hint)) == ("random stream of torch" in told)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled()
    assert torch.get_default_dtype() is torch.float32
    assert torch.get_num_threads() == 1
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_clone_whose_dropout_draws_from_the_process_is_found():
    class Forgetful(Quick):
        def attack(self, oracle, kit):
            super().attack(oracle, kit)
            self.clone.train()(kit.pool.images(slice(0, 20)))

    Forgetful.requires = frozenset({"pool"})
    assert broken(check_attacker(Forgetful)) == {"global-state"}


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
    assert "is not played without" in detail(findings, "labels")
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
    assert "refused from 300 on" in detail(findings, "refused")
