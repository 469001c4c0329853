"""Oracles that pass requests on: a share of a budget, and repaired answers."""

import pytest
import torch

from agents.oracle_wrappers.forwarding import Allowance, Restored
from envs.errors import BudgetExhausted, NotGranted


def test_an_allowance_ends_before_the_budget_does(fake_oracle):
    calls = []
    inner = fake_oracle(100)
    oracle = Allowance(inner, 30, after=lambda: calls.append(1))
    assert oracle.threat.budget == oracle.remaining == 30
    oracle.query(torch.rand(25, 1, 8, 8))
    with pytest.raises(BudgetExhausted, match="this phase's 30 left"):
        oracle.query(torch.rand(6, 1, 8, 8))
    assert (inner.remaining, oracle.remaining, calls) == (75, 5, [1])


def test_restored_answers_go_through_and_hide_what_was_hidden(fake_oracle):
    oracle = Restored(fake_oracle(10), lambda answers: answers.flip(1))
    response = oracle.query(torch.rand(4, 1, 8, 8))
    assert response.posteriors.shape == (4, 4)
    with pytest.raises(NotGranted):
        _ = response.latency
