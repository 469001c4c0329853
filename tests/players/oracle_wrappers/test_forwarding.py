"""Oracles that pass requests on: a share of a budget, and repaired answers."""

import pytest
import torch

from agents.oracle_wrappers.averaging import Repeated
from agents.oracle_wrappers.forwarding import Allowance, Restored
from envs.errors import BudgetExhausted, NotGranted, QueryError
from envs.types import Response, ThreatModel


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


@pytest.mark.parametrize(
    "front",
    [
        lambda oracle: Allowance(oracle, 50),
        lambda oracle: Restored(oracle, lambda answers: answers),
        lambda oracle: Repeated(oracle, 2, generator=torch.Generator()),
    ],
)
def test_an_account_that_is_named_reaches_the_oracle_behind(game, front):
    _, oracle = game(100)
    front(oracle).query(torch.zeros(3, 1, 8, 8), 0)
    with pytest.raises(QueryError, match="account from 0 to 0"):
        front(oracle).query(torch.zeros(3, 1, 8, 8), account=1)


def test_an_oracle_of_others_is_told_of_no_account_that_nobody_named():
    class Plain:
        threat, remaining = ThreatModel(4, (1, 8, 8), 10), 10

        def query(self, images):
            return Response(torch.full((len(images), 4), 0.25))

    Restored(Plain(), lambda answers: answers).query(torch.zeros(3, 1, 8, 8))
