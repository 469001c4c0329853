"""The test images' own sampling is part of every interval of an accuracy."""

import math

import numpy as np
import pytest

from arena.analysis.image_sampling import common_denominator, share_variance
from arena.analysis.intervals import Interval, mean_interval, seeds_needed
from arena.analysis.scoreboard import compare
from tests.match.conftest import episode


def test_accuracies_tell_how_many_images_were_scored():
    # 300/600 alone could be one of two images; with 59/600 it is 600
    assert common_denominator([0.5]) == 2
    assert common_denominator([0.5, 59 / 600]) == 600
    assert common_denominator([8 / 60, 7 / 360, 1.0]) == 360
    assert common_denominator([]) is None
    assert common_denominator([0.0, 1.0]) is None
    assert common_denominator([1 / math.pi]) is None


@pytest.mark.parametrize("images", [600, 1797, 10_000])
def test_the_number_is_found_from_a_few_episodes(images):
    right = np.random.default_rng(images).integers(0, images + 1, 15)
    assert common_denominator((right / images).tolist()) == images


def test_a_share_that_is_alike_on_all_seeds_has_the_width_of_its_images():
    # (59 + 2) / 604 = 0.10099; its deviation is sqrt(0.10099 * 0.89901 / 604) = 0.012261
    variance = share_variance(59 / 600, 600)
    assert math.sqrt(variance) == pytest.approx(0.012261, abs=1e-6)
    found = mean_interval([59 / 600] * 2).widened(variance)
    assert found.alike
    assert found.half_width == pytest.approx(1.95996 * 0.012261, abs=1e-5)
    assert share_variance(0.0, 600) > 0
    assert share_variance(0.5, None) == 0


def test_both_errors_add_up_as_squares():
    found = Interval(0.5, 0.5 - 0.03, 0.5 + 0.06, 3).widened((0.04 / 1.959964) ** 2)
    assert found.low == pytest.approx(0.5 - 0.05)
    assert found.high == pytest.approx(0.5 + math.hypot(0.06, 0.04))
    single = Interval(0.5, None, None, 1)
    assert single.widened(0.1) == single


def test_nineteen_of_twenty_intervals_hold_the_truth_where_seeds_share_their_images():
    """The t interval alone, which sees the seeds only, holds it in hardly more than half."""
    generator = np.random.default_rng(5)
    wide = narrow = 0
    for _ in range(400):
        easy = generator.random(300)  # of the test images, drawn anew
        right = np.clip(generator.normal(0.6, 0.005, (5, 1)), 0, 1) > easy
        means = right.mean(1).tolist()
        seeds = mean_interval(means)
        images = seeds.widened(share_variance(seeds.mean, 300))
        narrow += seeds.low <= 0.6 <= seeds.high
        wide += images.low <= 0.6 <= images.high
    assert wide >= 372  # 0.95 * 400 = 380, standard deviation 4.4
    assert narrow < 300


def test_two_seeds_alike_are_no_longer_certain(board):
    # three images of 600 at chance
    first, second = board({"a": (57, 57), "b": (60, 60)}, 600)
    gap = compare(second, first).difference
    assert gap.alike
    assert gap.low < 0 < gap.high
    assert first.scores["clone_accuracy"].low < 0.1 < first.scores["clone_accuracy"].high
    assert first.at_chance == second.at_chance == 0.1


def test_a_clone_above_chance_is_not_at_chance(board):
    (row,) = board({"a": (120, 121)}, 600)
    assert row.at_chance is None
    (single,) = board({"a": (61,)}, 600)  # no interval over seeds: the images decide
    assert single.at_chance == 0.1
    (unknown,) = board({"a": (60, 61)}, 600, num_classes=None)
    assert unknown.at_chance is None


def test_answers_that_agree_with_one_victim_leave_less_to_chance(board):
    alike = {"victim_accuracy": 583 / 600, "served_agreement": 0.99}
    near, same = (
        [episode(defender=name, seed=seed, served_accuracy=share, **{**alike, **more})
         for seed in range(3)]
        for name, share, more in (("n", 583 / 600, {}), ("s", 583 / 600, {"served_agreement": 1.0}))
    )  # fmt: skip
    first, second = _rows(near, same)
    # they differ on at most 1 % of the images: variance at most 0.01 / 600
    found = compare(first, second, "served_accuracy").difference
    assert found.half_width == pytest.approx(1.95996 * math.sqrt(0.01 / 600), abs=1e-5)
    loss = first.scores["utility_loss"]
    assert loss.half_width == pytest.approx(1.95996 * math.sqrt(0.01 / 600), abs=1e-5)
    assert second.scores["utility_loss"].half_width == pytest.approx(0, abs=1e-12)


def test_answers_of_different_victims_do_not_share_their_luck():
    def side(name, victim):
        plan = {"victim": {"use": victim}}
        return [episode(defender=name, seed=seed, plan=plan, served_accuracy=0.97,
                        served_agreement=1.0, victim_accuracy=0.97)
                for seed in range(3)]  # fmt: skip

    first, second = _rows(side("a", "one"), side("b", "two"))
    found = compare(first, second, "served_accuracy").difference
    assert found.half_width == pytest.approx(
        1.95996 * math.sqrt(2 * share_variance(0.97, 100)), abs=1e-5
    )


def test_no_number_of_seeds_narrows_what_the_images_leave():
    variance = share_variance(0.5, 600)
    assert seeds_needed([0.5, 0.51], 0.02, variance=variance) is None
    # 0.05**2 - (1.96 * 0.02035)**2 = 0.030136**2; t(0.975, 4) / sqrt(5) * 0.00707 = 0.0088
    assert 2 < seeds_needed([0.5, 0.51], 0.05, variance=variance) <= 5
    assert seeds_needed([0.5, 0.6, 0.7], 0.05) == 18


def _rows(*sides):
    from arena.analysis.scoreboard import scoreboard

    return scoreboard([row for side in sides for row in side])


def test_a_difference_of_two_accuracies_is_100_points_at_most(board):
    rows = board({"a": (10, 90), "b": (0, 10)}, 100)
    found = compare(*rows).difference
    assert (found.low, found.high) == (-1.0, 1.0)
