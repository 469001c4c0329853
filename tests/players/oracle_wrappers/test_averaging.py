"""Asking several times, and sharing a budget: the oracles in front of the oracle."""

from dataclasses import replace

import pytest
import torch

from agents.attackers.knockoff import Knockoff
from agents.attackers.wrapped import Averaging
from agents.base import granted
from agents.oracle_wrappers.averaging import Repeated, combined
from envs.errors import BudgetExhausted, PlayerError, ScenarioError
from envs.seeding import Streams
from envs.types import Response


def chance():
    return Streams(0).torch("chance")


@pytest.mark.parametrize("repeats", [1, 3, 7])
def test_a_line_spends_exactly_so_many_times_the_plain_queries(fake_oracle, kit, repeats):
    plain, oracle = fake_oracle(140), fake_oracle(140 * repeats)
    Averaging(repeats=1, batch=10).attack(plain, kit())
    Averaging(repeats=repeats, batch=10).attack(oracle, kit())
    assert plain.remaining == oracle.remaining == 0
    assert oracle.requests == [size for size in plain.requests for _ in range(repeats)]


def test_the_rest_below_one_question_is_left(fake_oracle, kit):
    oracle = fake_oracle(50)
    Averaging(repeats=4, batch=5).attack(oracle, kit())
    assert oracle.remaining == 2


def test_answers_are_combined_as_they_say():
    answers = torch.tensor(
        [[[0.6, 0.3, 0.1]], [[0.1, 0.8, 0.1]], [[0.5, 0.4, 0.1]]]
    )  # (3 answers, 1 image, 3 classes)
    times = torch.tensor([[1.0], [2.0], [3.0]])
    assert combined(answers, "mean", times).flatten().tolist() == pytest.approx([0.4, 0.5, 0.1])
    assert combined(answers, "vote", times).flatten().tolist() == [1, 0, 0]
    assert combined(answers, "least-confident", times).flatten().tolist() == pytest.approx(
        [0.5, 0.4, 0.1]
    )
    assert combined(answers, "slowest", times)[0, 0] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("combine", "labels", "seconds"),
    [
        ("slowest", [1, 1], [5e-3, 6e-3]),
        ("least-confident", [1, 1], [5e-3, 6e-3]),
        ("mean", [0, 0], [1e-3, 2e-3]),
        ("vote", [0, 0], [1e-3, 2e-3]),
    ],
)
def test_the_time_is_that_of_the_answer_that_was_chosen(fake_oracle, combine, labels, seconds):
    """An early exit says class 0 surely and at once; the last one class 1 unsurely and late."""

    class InTurn(fake_oracle):
        def query(self, images):
            early = (torch.arange(2) + len(self.requests)) % 2 == 0
            sure, unsure = torch.tensor([0.9, 0.1, 0.0, 0.0]), torch.tensor([0.2, 0.6, 0.1, 0.1])
            super().query(images)
            moment = torch.tensor([1e-3, 2e-3], dtype=torch.float64)
            return Response(
                torch.where(early[:, None], sure, unsure), moment + torch.where(early, 0, 4e-3)
            )

    inner = InTurn(8)
    inner.threat = replace(inner.threat, latency_visible=True)
    found = Repeated(inner, 2, generator=chance(), combine=combine).query(torch.rand(2, 1, 8, 8))
    assert found.posteriors.argmax(1).tolist() == labels
    assert found.latency.tolist() == pytest.approx(seconds)


def test_the_least_confident_answer_has_its_own_time_neither_the_least_nor_the_most(fake_oracle):
    class Delayed(fake_oracle):
        def query(self, images):
            first = not self.requests
            super().query(images)
            row = torch.tensor([[0.4, 0.3, 0.2, 0.1]] if first else [[0.9, 0.1, 0.0, 0.0]])
            return Response(row, torch.tensor([4e-3 if first else 9e-3 / len(self.requests)]))

    inner = Delayed(3)
    inner.threat = replace(inner.threat, latency_visible=True)
    oracle = Repeated(inner, 3, generator=chance(), combine="least-confident")
    assert oracle.query(torch.rand(1, 1, 8, 8)).latency.tolist() == pytest.approx([4e-3])
    assert oracle.remaining == 0


def test_the_mean_of_log_odds_takes_symmetric_noise_off():
    clean = torch.tensor([[0.7, 0.2, 0.1]])
    noise = torch.tensor([1.0, -1.0, 0.5, -0.5])[:, None, None] * torch.tensor([1.0, -2.0, 1.0])
    served = torch.sigmoid(torch.logit(clean) + noise)
    mean = combined(served, "logit-mean", torch.zeros(4, 1))
    assert torch.allclose(mean, clean, atol=1e-5)


def test_fresh_noise_averages_away(fake_oracle):
    generator = chance()
    clean = torch.tensor([0.7, 0.1, 0.1, 0.1])

    def noisy(images):
        wrong = torch.randint(1, 4, (len(images),), generator=generator)
        return 0.5 * clean + 0.5 * torch.nn.functional.one_hot(wrong, 4)

    def spread(repeats):
        oracle = Repeated(fake_oracle(4_000, noisy), repeats, generator=chance())
        return float(oracle.query(torch.rand(100, 1, 8, 8)).posteriors.std(0).mean())

    assert spread(16) == pytest.approx(spread(1) / 4, rel=0.3)


@pytest.mark.parametrize("duplicates", ["exact", "jitter", "shift"])
def test_the_first_question_is_the_image_and_the_others_are_near_it(fake_oracle, duplicates):
    seen = []
    oracle = Repeated(
        fake_oracle(60, listen=seen.append), 3, generator=chance(), duplicates=duplicates
    )
    images = torch.rand(20, 1, 8, 8, generator=Streams(1).torch("images"))
    oracle.query(images)
    assert torch.equal(seen[0], images)
    for copy in seen[1:]:
        if duplicates == "exact":
            assert torch.equal(copy, images)
        elif duplicates == "jitter":
            assert 0 < float((copy - images).abs().max()) <= 1.001 / 255
        else:
            assert torch.equal(copy.flatten(1).sort(1).values, images.flatten(1).sort(1).values)


def test_a_question_the_budget_does_not_pay_for_costs_nothing(fake_oracle):
    inner = fake_oracle(29)
    oracle = Repeated(inner, 3, generator=chance())
    assert oracle.remaining == 9
    with pytest.raises(BudgetExhausted, match="3 answers to each of 10 images with 29 left"):
        oracle.query(torch.rand(10, 1, 8, 8))
    assert inner.remaining == 29


def test_the_slowest_answer_needs_a_clock():
    with pytest.raises(PlayerError, match="needs latency"):
        granted(Averaging(combine="slowest"), labels="soft", latency_visible=False, pool=False)
    slowest = Knockoff(repeats=2, combine="slowest")
    with pytest.raises(PlayerError, match="needs latency"):
        granted(slowest, labels="soft", latency_visible=False, pool=True)
    with pytest.raises(ScenarioError, match="at least 1"):
        Averaging(repeats=0)
