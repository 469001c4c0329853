"""Attackers that buy a pool in rounds: their ledger, and that each asks what its idea says."""

import pytest
import torch

from agents.attackers.active_thief import ActiveThief
from agents.attackers.e3 import E3
from agents.attackers.jbda import JBDA
from agents.attackers.s4l import S4L
from agents.learning.selection import boundary_distances, entropies
from envs.data.images import bytes_to_unit
from envs.errors import PlayerError, ScenarioError, UnknownName
from envs.training.evaluation import predict

LIGHT = {
    "active-thief": lambda **more: ActiveThief(epochs=1, round_epochs=2, choices=3, **more),
    "s4l": lambda **more: S4L(epochs=1, **more),
    "e3": lambda **more: E3(epochs=2, **more),
    "jbda": lambda **more: JBDA(epochs=1, seeds=20, **more),
    "t-rnd": lambda **more: JBDA(variant="t-rnd", epochs=1, seeds=20, **more),
}


@pytest.mark.parametrize("name", LIGHT)
@pytest.mark.parametrize("budget", [1, 7, 130])
def test_the_ledger_is_the_budget(fake_oracle, posteriors, with_pool, name, budget):
    oracle = fake_oracle(budget, posteriors)
    LIGHT[name](request=32).attack(oracle, with_pool())
    assert oracle.remaining == 0
    assert max(oracle.requests) <= 32


def test_an_empty_pool_is_refused(fake_oracle, with_pool, random_pool):
    with pytest.raises(PlayerError, match="pool with images"):
        ActiveThief().attack(fake_oracle(10), with_pool(random_pool(0)))


class Watched(ActiveThief):
    """Keeps what it chose among, with the clone it chose by."""

    def choose(self, pixels, count):
        chosen = super().choose(pixels, count)
        self.seen = (self.clone, self.answers, pixels, chosen)
        return chosen


@pytest.mark.parametrize("strategy", ["uncertainty", "k-center", "dfal", "dfal+k-center", "random"])
def test_a_strategy_asks_what_its_idea_says(fake_oracle, posteriors, with_pool, strategy):
    thief = Watched(strategy=strategy, choices=1, seed_share=0.5, epochs=0, round_epochs=3)
    thief.attack(fake_oracle(30, posteriors), with_pool())
    clone, asked, pixels, chosen = thief.seen
    left = torch.ones(len(pixels), dtype=torch.bool)
    left[chosen] = False
    assert len(chosen) == len(chosen.unique()) == 12
    assert len(pixels) == 60 - 18  # those asked before are not candidates
    here = predict(clone, pixels).softmax(1)
    if strategy == "uncertainty":
        scores = entropies(here)
        assert scores[chosen].min() >= scores[left].max()
    if strategy == "dfal":
        scores = boundary_distances(clone, pixels)
        assert scores[chosen].max() <= scores[left].min()
    if strategy == "k-center":
        far = torch.cdist(here, predict(clone, asked.pixels).softmax(1)).amin(1)
        assert int(chosen[0]) == int(far.argmax())
    if strategy == "dfal+k-center":
        near = boundary_distances(clone, pixels).argsort()[:30]
        assert set(chosen.tolist()) <= set(near.tolist())


def test_no_image_is_asked_twice_before_all_were_asked(fake_oracle, posteriors, with_pool):
    asked = []
    oracle = fake_oracle(90, posteriors, listen=lambda images: asked.append(images))
    ActiveThief(strategy="uncertainty", choices=3, epochs=0, round_epochs=1).attack(
        oracle, with_pool()
    )
    rows = torch.cat(asked).flatten(1)
    assert len(rows[:60].unique(dim=0)) == 60
    assert len(rows) == 90


def test_few_candidates_are_looked_at_where_few_are_wanted(fake_oracle, posteriors, with_pool):
    thief = Watched(candidates=20, choices=1, epochs=0, round_epochs=1)
    thief.attack(fake_oracle(20, posteriors), with_pool())
    assert len(thief.seen[2]) == 20


def test_the_clone_of_a_round_is_the_one_with_the_best_f1(
    fake_oracle, posteriors, with_pool, monkeypatch
):
    scores = iter([0.2, 0.6, 0.5, 0.4, 0.3])
    kept = []

    def judge(clone, held):
        kept.append({name: value.clone() for name, value in clone.state_dict().items()})
        return next(scores)

    monkeypatch.setattr("agents.attackers.active_thief.macro_f1", judge)
    thief = Watched(choices=1, epochs=0, round_epochs=9, patience=2)
    thief.attack(fake_oracle(50, posteriors), with_pool())
    assert len(kept) == 4  # two epochs without a better one
    clone = thief.seen[0].state_dict()
    assert all(torch.equal(clone[name], kept[1][name]) for name in clone)


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"strategy": "uncertain"}, UnknownName, "did you mean 'uncertainty'"),
        ({"seed_share": 0.6, "validation_share": 0.5}, ScenarioError, "less than 1"),
        ({"recipe": "grat"}, UnknownName, "did you mean 'grad'"),
    ],
)
def test_what_cannot_be_played_is_refused(params, error, words):
    with pytest.raises(error, match=words):
        ActiveThief(**params)


def test_what_is_asked_is_of_the_pool(fake_oracle, posteriors, with_pool, random_pool):
    pool = random_pool()
    asked = []
    oracle = fake_oracle(40, posteriors, listen=asked.append)
    ActiveThief(choices=1, epochs=0, round_epochs=1).attack(oracle, with_pool(pool))
    own = {tuple(row) for row in bytes_to_unit(pool.pixels).flatten(1).tolist()}
    assert {tuple(row) for row in torch.cat(asked).flatten(1).tolist()} <= own
