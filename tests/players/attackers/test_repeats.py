"""The probe of repeats tells answers that vary from answers that do not."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.repeats import REPEATS, Repeats


def oracle_that(fake_oracle, varies, asked, budget=600):
    """Answer one class: always the same, another for each query, or one of an image's last bit."""

    def posteriors(images):
        label = torch.zeros(len(images), dtype=torch.long)
        if varies == "query":
            label += len(asked)
        if varies == "pixel":
            label += (images * 255).round().flatten(1).sum(1).long()
        return torch.eye(4)[label % 4]

    return fake_oracle(budget, posteriors, listen=asked.append)


@pytest.mark.parametrize(
    ("varies", "again", "near"),
    [(None, False, False), ("query", True, True), ("pixel", False, True)],
)
@pytest.mark.parametrize("pool", [True, False])
def test_what_varies_is_noted(fake_oracle, kit, with_pool, varies, again, near, pool):
    notes, asked = [], []
    lent = replace((with_pool if pool else kit)(), on_note=lambda *note: notes.append(note))
    Repeats(images=50).attack(oracle_that(fake_oracle, varies, asked), lent)
    ((kind, _, found),) = notes
    assert kind == REPEATS
    assert set(found) == ({"pool", "noise"} if pool else {"noise"})
    for one in found.values():
        assert (one["distance"] > 0) == (one["relabelled"] > 0) == again
        assert (one["near_distance"] > 0) == (one["near_relabelled"] > 0) == near
    assert torch.equal(asked[0], asked[1])
    assert 0 < (asked[2] - asked[0]).abs().max() <= 1 / 255 + 1e-6


@pytest.mark.parametrize("budget", [0, 2, 3, 7])
def test_a_small_budget_is_not_overspent(fake_oracle, kit, budget):
    oracle = oracle_that(fake_oracle, None, [], budget)
    Repeats().attack(oracle, kit())
    assert oracle.remaining == budget % 3
