"""A winner and a front are named only where tests show them."""

import numpy as np
import pytest

from arena.analysis.front import front, standings
from arena.analysis.paired_tests import paired_t_p
from arena.analysis.ranking import ranked

IMAGES = 600
DEFENDERS = [f"d{number:02}" for number in range(17)]


def equal_defenders(board, generator, seeds=10):
    """Simulate a log: all are copied to 30 % on the mean; seeds and images make the spread."""
    chances = np.clip(generator.normal(0.3, 0.03, (len(DEFENDERS), seeds)), 0, 1)
    right = generator.binomial(IMAGES, chances)
    # the same images for every seed: a defender that they suit is lucky on all seeds
    luck = generator.normal(0, np.sqrt(0.3 * 0.7 * IMAGES / 2), len(DEFENDERS))
    counts = np.clip(np.rint(right + luck[:, None]), 0, IMAGES)
    return board(dict(zip(DEFENDERS, counts, strict=True)), IMAGES)


def named(board, logs, seeds=10):
    generator = np.random.default_rng(17)
    boards = (equal_defenders(board, generator, seeds) for _ in range(logs))
    return sum(not ranked(rows).undecided for rows in boards)


def test_of_equal_defenders_no_winner_is_named(board):
    assert named(board, 40) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
def test_of_equal_defenders_no_winner_is_named_in_three_hundred_logs(board, seeds):
    assert named(board, 300, seeds) <= 15


def test_a_defender_that_is_better_is_told_from_all_others(board):
    generator = np.random.default_rng(2)
    right = {name: generator.binomial(IMAGES, 0.5, 5) for name in DEFENDERS}
    right["d03"] = generator.binomial(IMAGES, 0.3, 5)
    found = ranked(board(right, IMAGES))
    assert found.first.defender == "d03"
    assert found.undecided == ()
    assert len(found.rivals) == 16


def test_the_nearest_rival_alone_may_be_as_good(board):
    found = ranked(board({"a": (61, 67), "b": (67, 73), "c": (301, 307)}, IMAGES))
    assert [rival.row.defender for rival in found.undecided] == ["b"]
    # by hand: 0.01 each, z = 0.01 / sqrt(2 * 0.1 * 0.9 / 600)
    assert 0.3 < found.undecided[0].gap.p < 0.7


def test_one_seed_and_equal_values_of_unknown_images_show_nothing():
    assert paired_t_p([0.5], variance=1e-4) == 1.0
    assert paired_t_p([0.5, 0.5], variance=0.0) == 1.0
    assert paired_t_p([0.0, 0.0], variance=1e-4) == 1.0


def test_the_p_value_is_student_s_where_images_add_nothing_and_normal_where_seeds_do_not():
    # mean 2, standard error 1 / sqrt(3): t = 3.4641 on 2 degrees, p = 0.0742 (two-sided)
    assert paired_t_p([1.0, 2.0, 3.0], variance=0.0) == pytest.approx(0.07418, abs=1e-4)
    # z = 0.0196 / 0.01 = 1.96
    assert paired_t_p([0.0196, 0.0196], variance=1e-4) == pytest.approx(0.05, abs=1e-3)
    assert paired_t_p([0.5, 0.5], variance=1e-6) < 1e-9


SERVED = {"victim_accuracy": 541 / 600, "served_agreement": 1.0, "served_accuracy": 541 / 600}


def test_the_front_is_decided_only_where_intervals_are_clear(board):
    right = {"weak": (500, 502, 504), "strong": (60, 61, 62), "near": (63, 60, 64)}
    places = standings(board(right, IMAGES, **SERVED))
    states = dict(zip((place.defender for place in places), front(places), strict=True))
    # all serve alike and nothing else was measured: copying alone decides
    assert states == {"weak": "off", "strong": "undecided", "near": "undecided"}


def test_who_is_best_at_something_is_on_the_front_and_a_single_seed_decides_nothing(board):
    rows = [
        *board({"safe": (60, 61, 62)}, IMAGES, served_accuracy=301 / 600),
        *board({"open": (500, 501, 502)}, IMAGES, served_accuracy=541 / 600),
        *board({"poor": (590, 592, 594)}, IMAGES, served_accuracy=271 / 600),
    ]
    assert front(standings(rows)) == ["on", "on", "off"]
    single = board({"a": (60,), "b": (500,)}, IMAGES)
    assert front(standings(single)) == ["undecided", "undecided"]


def test_defenders_with_the_same_losses_are_both_on_the_front(board):
    rows = board({"a": (60, 61), "b": (60, 61)}, IMAGES, clone_fidelity=1.0)
    assert front(standings(rows)) == ["on", "on"]


@pytest.mark.slow
def test_the_front_of_equal_defenders_is_undecided(board):
    generator = np.random.default_rng(3)
    decided = 0
    for _ in range(40):
        states = front(standings(equal_defenders(board, generator)))
        decided += any(state != "undecided" for state in states)
    assert decided <= 2
