"""Recipes: their values, their schedules, what they refuse."""

import math

import pytest

from envs.errors import ArenaError, UnknownName
from envs.training.recipes import RECIPES, Recipe, recipe, recipe_for, recipe_of


def test_the_default_recipes_are_those_that_were_measured_or_published():
    digits, colour = RECIPES["digits"], RECIPES["colour32"]
    assert (digits.epochs, digits.batch, digits.learning_rate) == (30, 64, 0.05)
    assert (colour.epochs, colour.batch, colour.learning_rate) == (200, 128, 0.1)
    for each in (digits, colour):
        assert (each.momentum, each.nesterov, each.weight_decay) == (0.9, True, 5e-4)
        assert each.schedule == "cosine"
    assert colour.augment == "crop-flip"
    assert digits.augment == "none"


def test_the_shape_of_the_images_chooses_the_default():
    assert recipe_for((1, 8, 8)) is RECIPES["digits"]
    assert recipe_for((1, 28, 28)) is RECIPES["grey28"]
    assert recipe_for((3, 32, 32)) is RECIPES["colour32"]
    assert recipe_for((3, 224, 224)) is RECIPES["colour32"]


def test_a_cosine_falls_from_one_through_a_half():
    each = Recipe(schedule="cosine")
    assert each.rate_factor(0, 100) == 1
    assert each.rate_factor(50, 100) == pytest.approx(0.5)
    assert each.rate_factor(99, 100) == pytest.approx(0.5 * (1 + math.cos(0.99 * math.pi)))


def test_steps_decay_at_their_milestones():
    # 200 epochs of 10 steps, by 0.1 at epochs 80, 120 and 160
    meco = RECIPES["meco"]
    factors = {epoch: meco.rate_factor(epoch * 10, 2000) for epoch in (0, 79, 80, 119, 120, 160)}
    assert factors == pytest.approx({0: 1, 79: 1, 80: 0.1, 119: 0.1, 120: 0.01, 160: 0.001})


def test_one_cycle_rises_to_the_peak_and_falls_to_nothing():
    each = Recipe(schedule="one-cycle", warmup=0.2)
    factors = [each.rate_factor(step, 100) for step in range(100)]
    assert factors.index(max(factors)) == 20
    assert factors[20] == 1
    assert factors[60] == pytest.approx(0.5)
    assert factors[:21] == sorted(factors[:21])
    assert factors[20:] == sorted(factors[20:], reverse=True)
    assert 0 < factors[0] < 0.06
    assert 0 < factors[-1] < 0.02


def test_warm_up_rises_evenly_to_the_full_rate():
    each = Recipe(schedule="constant", warmup=0.1)
    assert [each.rate_factor(s, 40) for s in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1])


@pytest.mark.parametrize("name", RECIPES)
def test_a_rate_is_never_negative_and_never_above_the_peak(name: str):
    factors = [RECIPES[name].rate_factor(step, 333) for step in range(333)]
    assert all(0 < factor <= 1 for factor in factors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.0}, "learning_rate above 0"),
        ({"batch": 0}, "batch 1 or more"),
        ({"milestones": (0.7, 0.3)}, "ascending"),
        ({"milestones": (80.0,)}, "shares of the run"),
        ({"schedule": "one-cycle"}, "with schedule 'one-cycle'"),
        ({"label_smoothing": 1.0}, "label_smoothing in"),
        ({"momentum": 1.0}, "momentum in"),
        ({"amp_on_cpu": True}, "amp 'bf16' where amp_on_cpu is set"),
        ({"amp_on_cpu": True, "amp": "fp16"}, "amp 'bf16' where amp_on_cpu is set"),
    ],
)
def test_an_impossible_value_is_refused_by_name(change: dict[str, object], said: str):
    with pytest.raises(ArenaError, match=said):
        recipe("digits", **change)


@pytest.mark.parametrize(
    ("change", "meant"),
    [
        ({"schedule": "cosin"}, "cosine"),
        ({"optimiser": "adamw"}, "adam"),
        ({"augment": "crop_flip"}, "crop-flip"),
        ({"epoch": 3}, "epochs"),
    ],
)
def test_a_misspelt_value_gets_a_suggestion(change: dict[str, object], meant: str):
    with pytest.raises(UnknownName, match=f"did you mean '{meant}'"):
        recipe("digits", **change)
    with pytest.raises(UnknownName, match="did you mean 'digits'"):
        recipe("digit")


def test_a_list_of_milestones_from_a_scenario_file_is_taken():
    each = recipe("digits", schedule="steps", milestones=[0.5])
    assert each.milestones == (0.5,)
    assert hash(each) == hash(recipe("digits", schedule="steps", milestones=(0.5,)))


def test_a_table_names_a_recipe_or_changes_the_default_of_its_images():
    colour = (3, 32, 32)
    assert recipe_of({}, colour) == RECIPES["colour32"]
    assert recipe_of({"epochs": 3}, colour) == RECIPES["colour32"].with_changes(epochs=3)
    short = recipe_of({"use": "short32", "epochs": 3}, colour)
    assert short == RECIPES["short32"].with_changes(epochs=3)
    assert (short.schedule, short.nesterov, short.label_smoothing) == ("one-cycle", True, 0.1)
    with pytest.raises(UnknownName, match="did you mean 'short32'"):
        recipe_of({"use": "short23"}, colour)


def test_networks_that_were_cached_before_a_value_existed_are_found_again():
    """The address of a cached network must not change with a new value that is not set."""
    old = {
        "epochs", "batch", "optimiser", "learning_rate", "momentum", "nesterov", "weight_decay",
        "schedule", "milestones", "gamma", "warmup", "augment", "amp", "clip_norm",
        "label_smoothing",
    }  # fmt: skip
    assert set(Recipe().key()) == old
    exact, quick = Recipe(amp="bf16"), Recipe(amp="bf16", amp_on_cpu=True)
    assert exact.key() != quick.key()
