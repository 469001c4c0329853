"""Distances of a client's queries from its own history."""

import pytest
import torch
from scipy import stats

from agents.defenders.query_drift import (
    DriftTest,
    History,
    nearest_before,
    shapiro_francia,
    without_far,
)
from envs.data.sources import load
from envs.seeding import Streams


def history(**changes):
    settings = {"memory": 600, "window": 200, "block": 10, "repeats": 8192}
    return History(**(settings | changes))


def column(*values):
    """Images of one pixel."""
    return torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1, 1)


def random_images(count, seed=0):
    return torch.rand(count, 1, 8, 8, generator=Streams(seed).torch("images"))


def zeros(count):
    return torch.zeros(count, dtype=torch.int64)


@pytest.mark.parametrize("law", ["norm", "expon", "uniform", "lognorm"])
def test_the_coefficient_is_shapiro_and_wilks_within_two_hundredths(law):
    rng = Streams(1).numpy(law)
    sample = getattr(stats, law)(*([1.0] if law == "lognorm" else [])).rvs(200, random_state=rng)
    expected = stats.shapiro(sample).statistic
    assert float(shapiro_francia(torch.from_numpy(sample))) == pytest.approx(expected, abs=0.02)


def test_the_coefficient_is_1_on_a_normal_and_0_without_spread():
    ranks = torch.arange(1, 51, dtype=torch.float64)
    scores = torch.special.ndtri((ranks - 0.375) / 50.25)
    assert float(shapiro_francia(3 * scores + 7)) == pytest.approx(1)
    assert float(shapiro_francia(torch.full((50,), 0.3))) == 0


def test_only_far_outliers_are_dropped_and_a_tenth_at_most():
    ordinary = torch.linspace(0.9, 1.1, 96)
    near, far = torch.zeros(2), torch.full((2,), 9.0)
    kept = without_far(torch.cat([ordinary, near, far]))
    assert len(kept) == 98
    assert kept.max() < 1.2
    assert kept.min() == 0
    half_far = torch.cat([ordinary[:51], torch.full((49,), 9.0)])
    assert len(without_far(half_far)) == 90


def test_far_is_counted_in_deviations_as_the_median_deviation_tells_them():
    """Of 0 to 10: median 5, median deviation 3, so that one deviation ends at 9.45."""
    assert without_far(torch.arange(11.0), deviations=1, share=0.5).tolist() == list(range(10))


def test_distances_are_to_the_nearest_earlier_query_of_the_same_label():
    points = torch.tensor([[1.0], [1.5], [4.0], [2.0]])
    known = torch.tensor([[0.0], [3.0]])
    found = nearest_before(points, torch.tensor([0, 0, 1, 2]), known, torch.tensor([0, 1]))
    assert found.tolist() == [1.0, 0.5, 1.0, float("inf")]


def test_a_probe_next_to_its_image_is_seen_at_its_true_distance():
    images = random_images(5)
    past = history()
    past.add(torch.cat([images, images + 1e-5]), zeros(10))
    assert past.distances[-5:].tolist() == pytest.approx([8e-5] * 5, rel=0.05)


def test_exact_repeats_are_no_evidence():
    past = history()
    past.add(column(*[0.0, 0.5, 0.0, 0.5, 1.0] * 2), zeros(10))
    assert past.distances.tolist() == [0.5, 0.5]
    past.add(column(*[0.0, 0.5, 1.0, 0.5, 1.0] * 2), zeros(10))
    assert past.distances.tolist() == [0.5, 0.5]
    assert past.asked == 20


def test_repeats_of_what_left_the_memory_are_no_evidence_either():
    images = random_images(100)
    past = history(memory=20)
    past.add(images, zeros(100))
    measured = past.measured
    past.add(images, zeros(100))
    assert past.measured == measured == 99


@pytest.mark.parametrize("request_size", [1, 7, 64, 300])
def test_how_a_client_splits_its_queries_changes_nothing(request_size):
    images, labels = random_images(300), torch.arange(300) % 3
    whole, split = history(), history()
    whole.add(images, labels)
    for start in range(0, 300, request_size):
        rows = slice(start, start + request_size)
        split.add(images[rows], labels[rows])
    assert torch.equal(whole.distances, split.distances)


def test_tests_fall_due_at_the_same_queries_whatever_the_requests():
    images = random_images(900)
    due = []
    for size in (1, 64, 900):
        test = DriftTest(normality=0, band=None, window=200, every=100, memory=600)
        found = [
            test.add(images[start : start + size], zeros(len(images[start : start + size])))
            for start in range(0, 900, size)
        ]
        due.append([evidence for part in found for evidence in part])
    assert [evidence.asked for evidence in due[0]] == [300, 400, 500, 600, 700, 800, 900]
    assert due[0] == due[1] == due[2]


def test_a_client_cannot_rewrite_its_past_by_changing_its_images_in_place():
    images, benign, sly = random_images(15), history(), history()
    benign.add(images.clone(), zeros(15))
    benign.add(random_images(5, seed=1), zeros(5))
    sly.add(images, zeros(15))
    images.zero_()
    sly.add(random_images(5, seed=1), zeros(5))
    assert torch.equal(benign.distances, sly.distances)


def test_memory_stays_bounded():
    past = history(memory=50, window=30, repeats=60)
    for seed in range(20):
        past.add(random_images(20, seed), zeros(20))
    assert [len(part) for part in past._kept] == [50, 50, 60]
    assert len(past.distances) == 30


def test_the_same_evidence_is_not_judged_twice():
    images = random_images(400)
    test = DriftTest(normality=0, band=None, window=200, every=100, memory=600)
    assert test.add(images, zeros(400))
    assert not test.add(images.repeat(3, 1, 1, 1), zeros(1200))


def test_distances_of_real_digits_are_normal_and_in_the_band_of_the_scenarios():
    digits = load("digits").train
    generator = Streams(3).torch("order")
    evidence = []
    for _ in range(4):
        order = torch.randperm(len(digits), generator=generator)[:600]
        test = DriftTest(normality=0.85, band=(0.9, 1.7), window=200, every=100, memory=600)
        evidence += test.add(digits.images(order), digits.labels[order])
    assert len(evidence) == 16
    assert not [found for found in evidence if found.reason]
    assert min(found.normality for found in evidence) > 0.9
