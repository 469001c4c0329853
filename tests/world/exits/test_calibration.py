"""Claims about thresholds that are set on held-out data."""

import math

import numpy as np
import pytest
import torch

from envs.data.images import ImageSet
from envs.errors import ScenarioError
from envs.exits.calibration import (
    calibrate,
    calibrate_network,
    clopper_pearson_upper,
    measure_exits,
    provable_loss,
)
from envs.exits.rules import Thresholds, log_odds
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.seeding import Streams

EXITS = 4  # early ones


def population(count: int, seed: int, harm: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Synthetic scores of images with a shared difficulty, and exits that err less when confident.

    `harm` is the log-odds at which an early exit is right half the time, given the last one is.
    """
    rng = np.random.default_rng(seed)
    ease = rng.normal(0, 1.5, count)
    scores = ease + rng.normal(1.0, 1.0, (EXITS, count)) + np.arange(EXITS)[:, None] * 0.5
    right = rng.random((EXITS, count)) < 1 / (1 + np.exp(-(scores - harm)))
    last = rng.random((1, count)) < 0.95
    return torch.tensor(scores), torch.tensor(np.concatenate([right, last]))


def serve(rule: Thresholds, scores: torch.Tensor, correct: torch.Tensor) -> tuple[float, float]:
    """Early share and share of harm of a rule on other images."""
    passes = scores > torch.tensor(rule.log_odds, dtype=torch.float64)[:, None]
    passes = torch.cat([passes, torch.ones_like(passes[:1])])
    exits = passes.to(torch.int64).argmax(0)
    served = correct[exits, torch.arange(scores.shape[1])]
    return float((exits < EXITS).double().mean()), float((correct[-1] & ~served).double().mean())


@pytest.mark.parametrize("budget", [0.05, 0.2, 0.5])
def test_the_early_share_meets_its_budget_on_other_images(budget):
    for seed in range(5):
        held_out, test = population(4000, seed), population(4000, 100 + seed)
        calibration = calibrate(*held_out, early_budget=budget, tolerance=1.0)
        share, _ = serve(calibration.rule(), *test)
        variance = budget * (1 - budget)
        assert calibration.budget == budget
        assert calibration.count == 2000
        assert abs(calibration.early_share - budget) <= 3 * math.sqrt(variance * (2 / 2000))
        assert abs(share - budget) <= 3 * math.sqrt(variance * (1 / 2000 + 1 / 4000))


def test_the_utility_bound_holds_on_fresh_data():
    fresh, tolerance, held, used = population(100_000, 999), 0.005, 0, 0
    for seed in range(100):
        scores, correct = population(6000, seed)
        calibration = calibrate(scores, correct, tolerance=tolerance, most_saving=True)
        share, harm = serve(calibration.rule(), *fresh)
        held += harm <= tolerance
        used += share > 0.01
    assert held >= 90
    assert used == 100  # the bound binds: it is not met by never leaving


def test_every_early_exit_takes_the_same_share_of_those_who_reach_it():
    scores, correct = population(100_000, 3)
    calibration = calibrate(scores, correct, early_budget=0.3, tolerance=1.0)
    step = 1 - 0.7 ** (1 / EXITS)
    scores = scores[:, ::2]  # those that set the thresholds
    inside = torch.ones(50_000, dtype=torch.bool)
    for row, threshold in zip(scores, calibration.log_odds, strict=True):
        passes = inside & (row > threshold)
        assert float(passes.sum() / inside.sum()) == pytest.approx(step, abs=1e-4)
        inside &= ~passes


def test_thresholds_by_hand():
    # one early exit, a fifth may leave: of 10 images the two most confident ones, 10 others prove
    scores = torch.arange(10, dtype=torch.float64).repeat_interleave(2)[None]
    correct = torch.ones(2, 20, dtype=torch.bool)
    correct[0, 19] = False
    calibration = calibrate(scores, correct, early_budget=0.2, tolerance=0.5)
    assert calibration.log_odds == (7.5,)
    assert calibration.early_share == 0.2
    assert (calibration.harm, calibration.count) == (1, 10)
    assert calibration.harm_bound == pytest.approx(0.39416, abs=1e-5)


def test_images_of_one_score_stay_together():
    scores = torch.tensor([[0.0, 1, 1, 1, 1, 2, 2, 2]], dtype=torch.float64)
    scores = scores.repeat_interleave(2, 1)
    correct = torch.ones(2, 16, dtype=torch.bool)
    half = calibrate(scores, correct, early_budget=0.5, tolerance=0.9)
    assert (half.log_odds, half.early_share) == ((1.5,), 3 / 8)
    none = calibrate(scores, correct, early_budget=0.25, tolerance=0.9)
    assert (none.log_odds, none.early_share) == ((2.0,), 0.0)


def test_an_error_of_the_last_exit_is_no_harm():
    scores = torch.arange(10, dtype=torch.float64).repeat_interleave(2)[None]
    correct = torch.ones(2, 20, dtype=torch.bool)
    correct[:, 19] = False  # wrong at both exits
    correct[1, 17] = False  # the early answer is better
    assert calibrate(scores, correct, early_budget=0.2, tolerance=0.5).harm == 0


def test_the_bound_is_clopper_and_pearsons():
    # rule of three, exact: 1 - 0.05 ** (1 / n); and the defining equation of the limit
    assert clopper_pearson_upper(0, 598) == pytest.approx(1 - 0.05 ** (1 / 598), rel=1e-12)
    assert clopper_pearson_upper(7, 7) == 1.0
    limit = clopper_pearson_upper(3, 50)
    tail = sum(math.comb(50, k) * limit**k * (1 - limit) ** (50 - k) for k in range(4))
    assert tail == pytest.approx(0.05, rel=1e-9)


def test_a_budget_that_harms_too_much_is_cut():
    scores, correct = population(5000, 1, harm=6.0)
    calibration = calibrate(scores, correct, early_budget=0.5)
    free = calibrate(scores, correct, early_budget=0.5, tolerance=1.0)
    assert free.harm_bound > 0.005
    assert calibration.harm_bound <= 0.005
    assert 0 < calibration.budget < 0.5
    # a little more would have been too much
    more = calibrate(scores, correct, early_budget=calibration.budget + 0.005, tolerance=1.0)
    assert more.harm_bound > 0.005


def test_most_saving_leaves_at_least_as_early_as_any_feasible_budget():
    scores, correct = population(5000, 2)
    saving = calibrate(scores, correct, most_saving=True)
    assert saving.early_share >= calibrate(scores, correct).early_share
    assert saving.harm_bound <= 0.005


def test_harmless_exits_save_everything():
    scores, _ = population(2000, 4)
    calibration = calibrate(scores, torch.ones(EXITS + 1, 2000, dtype=torch.bool), most_saving=True)
    assert calibration.early_share == 1.0
    assert calibration.log_odds == (-math.inf,) * EXITS


def test_no_budget_lets_nobody_leave():
    scores, correct = population(2000, 5)
    calibration = calibrate(scores, correct, early_budget=0.0)
    assert calibration.log_odds == (math.inf,) * EXITS
    assert (calibration.early_share, calibration.harm, calibration.harm_bound) == (0.0, 0, 0.0)
    assert serve(calibration.rule(), *population(2000, 6)) == (0.0, 0.0)


def test_a_tolerance_of_nothing_lets_nobody_leave():
    assert calibrate(*population(2000, 5), tolerance=0.0).early_share == 0.0


def test_thresholds_above_what_a_float_of_confidence_can_hold_still_separate():
    scores = torch.linspace(40, 60, 2001, dtype=torch.float64)[None]
    correct = torch.ones(2, 2001, dtype=torch.bool)
    calibration = calibrate(scores, correct, early_budget=0.25)
    assert calibration.budget == 0.25
    assert calibration.thresholds == (1.0,)  # saturated as a confidence
    assert calibration.early_share == pytest.approx(0.25, abs=2e-3)
    assert calibration.rule().log_odds == calibration.log_odds


def test_too_few_images_to_prove_the_tolerance_are_refused_with_the_number_needed():
    scores, correct = population(300, 1)
    with pytest.raises(ScenarioError, match=r"300 held-out images.* at least 1196 or raise"):
        calibrate(scores, correct)
    calibrate(*population(1196, 1))
    with pytest.raises(ScenarioError):
        calibrate(*population(1195, 1))
    # 1 - 0.05 ** (1 / 150): half of 300 images prove
    assert provable_loss(300) == pytest.approx(0.019773, abs=1e-6)


def test_one_half_sets_the_thresholds_and_the_other_alone_proves_them():
    scores, correct = population(2000, 7)
    plain = calibrate(scores, correct, early_budget=0.2, tolerance=0.03)
    assert plain.budget == 0.2
    choosing, proving = torch.arange(0, 2000, 2), torch.arange(1, 2000, 2)
    wrong = correct.clone()
    wrong[:-1, choosing] = False  # nothing is read of the choosing half but its scores
    assert calibrate(scores, wrong, early_budget=0.2, tolerance=0.03) == plain
    other = scores.clone()
    other[:, proving] = -99.0  # scores of the proving half set no threshold
    assert calibrate(other, correct, early_budget=0.2, tolerance=0.03).log_odds == plain.log_odds
    wrong = correct.clone()
    wrong[:-1, proving] = False
    assert calibrate(scores, wrong, early_budget=0.2, tolerance=0.03).budget < 0.1


def test_shares_beyond_the_first_that_fails_are_not_tried():
    choosing = torch.arange(10, dtype=torch.float64).repeat(2, 1)
    proving = torch.full((2, 10), -1.0, dtype=torch.float64)
    # leaves wrongly at the second exit, and with many others rightly at the first
    proving[:, 0] = torch.tensor([6.2, 100.0])
    scores = torch.stack([choosing, proving], 2).flatten(1)
    correct = torch.ones(3, 20, dtype=torch.bool)
    correct[1, 1] = False
    everything = calibrate(scores, correct, most_saving=True, tolerance=1.0)
    assert (everything.early_share, everything.harm) == (1.0, 0)
    calibration = calibrate(scores, correct, most_saving=True, tolerance=0.3)
    assert clopper_pearson_upper(0, 10) < 0.3 < clopper_pearson_upper(1, 10)
    assert calibration.early_share == 0


def test_a_single_image_cannot_be_divided():
    with pytest.raises(ValueError, match="n >= 2"):
        calibrate(torch.zeros(1, 1), torch.ones(2, 1, dtype=torch.bool))


@pytest.mark.parametrize(
    ("scores", "correct"),
    [
        (torch.zeros(4, 10), torch.ones(4, 10, dtype=torch.bool)),
        (torch.zeros(4, 10), torch.ones(5, 9, dtype=torch.bool)),
        (torch.zeros(0, 10), torch.ones(1, 10, dtype=torch.bool)),
        (torch.zeros(10), torch.ones(10, dtype=torch.bool)),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, correct):
    with pytest.raises(ValueError, match="expected scores"):
        calibrate(scores, correct)


@pytest.mark.parametrize(
    "options", [{"early_budget": 1.5}, {"tolerance": -0.1}, {"confidence": 1.0}]
)
def test_shares_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="expected"):
        calibrate(*population(1000, 0), **options)


def make_network() -> MultiExit:
    generator = Streams(0).torch("network")
    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=generator)
    return with_heads(backbone, generator=generator).eval()


def held_out(count: int) -> ImageSet:
    generator = Streams(0).torch("images")
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 10, (count,), generator=generator)
    return ImageSet(pixels, labels, 10, "noise", tuple("0123456789"))


def test_a_calibrated_network_serves_the_share_it_was_calibrated_to():
    from envs.victim.victim import Victim

    network, images = make_network().train(), held_out(700)
    calibration = calibrate_network(network, images, early_budget=0.3, tolerance=0.5, batch=300)
    assert network.training
    answer = Victim(network, rule=calibration.rule()).answer(
        images.images(), generator=torch.Generator()
    )
    early = (answer.exits < 4).double()
    assert float(early[1::2].mean()) == calibration.early_share
    assert float(early[::2].mean()) == pytest.approx(0.3, abs=EXITS / 350)


@pytest.mark.parametrize("count", [0, 1])
def test_held_out_images_that_set_no_threshold_are_told_in_one_line(count):
    with pytest.raises(ScenarioError, match=f"'noise' has {count}; give at least 2"):
        calibrate_network(make_network(), held_out(count))


@torch.no_grad()
def test_measuring_does_not_depend_on_the_batch():
    network, images = make_network(), held_out(100)
    scores, correct = measure_exits(network, images, batch=100)
    other_scores, other_correct = measure_exits(network, images, batch=33)
    assert scores.shape == (4, 100)
    assert correct.shape == (5, 100)
    assert torch.equal(correct, other_correct)
    torch.testing.assert_close(scores, other_scores, rtol=0, atol=1e-4)
    logits = network.forward_all(images.images())
    assert torch.equal(correct, logits.argmax(2) == images.labels)
    torch.testing.assert_close(scores, torch.stack([log_odds(each) for each in logits[:-1]]))
