"""GuardSurrogate trains guards on its pool and moves images to where these suspect little."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.attackers import guard_surrogate
from agents.attackers.guard_surrogate import GuardSurrogate, least_suspected, passing, usual_levels
from agents.attackers.knockoff import Knockoff
from agents.learning.transfer_set import TransferSet
from envs.errors import ScenarioError

LIGHT = {"surrogates": 1, "guard_steps": 20, "moves": 5, "epochs": 1, "request": 20}


@pytest.fixture
def brightness(monkeypatch):
    """One guard whose suspicion is ten times the mean of an image."""
    monkeypatch.setattr(
        guard_surrogate,
        "_suspicions",
        lambda surrogates, images: [10 * images.flatten(1).mean(1) for _ in surrogates],
    )


def test_images_are_moved_to_where_guards_suspect_less(brightness):
    grey = torch.full((3, 1, 8, 8), 0.5)
    moved = passing([None], grey, [-10.0], reach=0.2, moves=40)
    # the guard suspects light, so that every value falls by the whole reach, and not one further
    assert torch.allclose(moved, torch.full_like(grey, 0.3), atol=1e-4)


def test_moved_images_stay_images(brightness):
    dark = torch.full((1, 1, 8, 8), 0.1)
    moved = passing([None], dark, [-10.0], reach=0.5, moves=40)
    assert float(moved.min()) == 0.0


def test_the_usual_level_is_a_deviation_below_the_mean(brightness):
    pixels = torch.tensor([51, 153], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 8, 8)
    # suspicions 2 and 6: mean 4, deviation 2
    assert usual_levels([None], pixels) == pytest.approx([2.0])


def test_the_least_suspected_answers_are_kept_in_their_order(brightness):
    pixels = torch.tensor([90, 10, 80, 20], dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    kept = least_suspected([None], TransferSet(pixels, torch.eye(4)), 0.5)
    assert kept.pixels[:, 0, 0, 0].tolist() == [10, 20]
    assert torch.equal(kept.posteriors, torch.eye(4)[[1, 3]])


def test_its_guards_suspect_noise_more_than_its_pool_and_moving_lowers_it(
    fake_oracle, posteriors, with_pool, monkeypatch
):
    made = []

    def kept(*args, **options):
        made.append(train_guards(*args, **options))
        return made[-1]

    train_guards = guard_surrogate.train_guards
    monkeypatch.setattr(guard_surrogate, "train_guards", kept)
    asked = []
    oracle = fake_oracle(60, posteriors, listen=asked.append)
    GuardSurrogate(**{**LIGHT, "guard_steps": 100, "moves": 20}).attack(oracle, with_pool())
    images = torch.cat(asked)
    pool = with_pool().pool.images()
    unmoved = torch.tensor([bool((one == pool).flatten(1).all(1).any()) for one in images])
    assert unmoved.tolist() == [True] * 18 + [False] * 42
    found = torch.stack(guard_surrogate._suspicions(made, images)).mean(0)
    assert float(found[18:].mean()) < float(found[:18].mean())


def test_the_first_part_is_asked_as_knockoff_would_and_the_budget_is_spent(
    fake_oracle, posteriors, with_pool
):
    for budget in (1, 2, 7, 130):
        oracle = fake_oracle(budget, posteriors)
        attacker = GuardSurrogate(**LIGHT, trusted=0.5)
        attacker.attack(oracle, with_pool())
        assert oracle.remaining == 0
        assert attacker.clone is not None


def test_confidences_teach_nothing(fake_oracle, posteriors, with_pool):
    """Only the top label of an answer is read."""
    clones = []
    for answers in (posteriors, lambda images: posteriors(images).pow(3) + 1e-3):
        attacker = GuardSurrogate(**LIGHT)
        oracle = fake_oracle(60, lambda images, f=answers: f(images) / f(images).sum(1)[:, None])
        attacker.attack(oracle, with_pool())
        clones.append(torch.cat([one.detach().flatten() for one in attacker.clone.parameters()]))
    assert torch.equal(*clones)


def test_its_surrogates_need_no_clone_in_stages(fake_oracle, posteriors, with_pool):
    lent = replace(with_pool(), new_clone=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))
    oracle = fake_oracle(60, posteriors)
    GuardSurrogate(**LIGHT).attack(oracle, lent)
    assert oracle.remaining == 0


@pytest.mark.parametrize("params", [{"first_share": 0.0}, {"trusted": 0.0}, {"trusted": 1.5}])
def test_wrong_shares_are_refused(params):
    with pytest.raises(ScenarioError, match="expected first_share"):
        GuardSurrogate(**params)


def test_it_needs_what_knockoff_needs():
    assert GuardSurrogate.requires == Knockoff.requires
