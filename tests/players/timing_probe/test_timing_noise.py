"""Taking noise and drift out of times."""

import numpy as np
import pytest

from agents.timing_probe.timing_noise import (
    best_window,
    calibrate,
    drift_at,
    has_floor,
    mean_of_fastest,
    repeat_noise,
    step_of_clock,
    summarise,
)


def calibration(seconds, *, same_answers=True):
    logs = np.log(seconds)
    return calibrate(logs[: len(logs) // 3], logs[len(logs) // 3 :], same_answers=same_answers)


def wandering(n, rng, *, deviation=0.3, memory=0.95):
    values = np.zeros(n)
    for i in range(1, n):
        values[i] = memory * values[i - 1] + np.sqrt(1 - memory**2) * rng.normal()
    return deviation * values


def test_symmetric_noise_is_averaged_and_one_sided_jitter_floored():
    rng = np.random.default_rng(0)
    assert calibration(3e-3 * np.exp(0.02 * rng.normal(size=300))).statistic == "mean"
    assert calibration(30e-3 + rng.exponential(1e-3, 300)).statistic == "minimum"


def test_a_shared_server_gives_the_low_percentile_and_more_references():
    found = calibration(3e-3 * np.exp(wandering(60, np.random.default_rng(0))))

    assert found.statistic == "low"
    assert found.drifts


def test_one_input_at_several_exits_is_noticed_unless_its_answers_are_the_same():
    rng = np.random.default_rng(0)
    seconds = rng.choice([1e-3, 2e-3, 4e-3], 30) * np.exp(0.01 * rng.normal(size=30))

    assert calibration(seconds, same_answers=False).fresh_exits
    assert not calibration(seconds).fresh_exits
    assert not calibration(np.full(30, 1e-3), same_answers=False).fresh_exits


@pytest.mark.parametrize("together", [np.full(20, 3e-2), np.full(20, 3.01e-3)])
def test_requests_that_wait_for_their_slowest_image_are_noticed(together):
    rng = np.random.default_rng(0)
    alone = 3e-3 * np.exp(0.01 * rng.normal(size=10))

    assert calibrate(np.log(alone), np.log(together), same_answers=True).batched


def test_a_clock_that_never_varies_has_no_noise():
    found = calibration(np.full(30, 5.2e-3))

    assert (found.deviation, found.skew, found.memory) == (pytest.approx(0, abs=1e-12), 0, 0)
    assert not found.batched


def test_summaries_of_repeats():
    times = np.log([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])

    assert np.exp(summarise(times, "minimum")) == pytest.approx([1, 3])
    assert np.exp(summarise(times, "mean")) == pytest.approx([2, 3])
    assert np.exp(summarise(times, "low")) == pytest.approx([2**0.2, 3])


def test_references_divide_a_slow_drift_out():
    rng = np.random.default_rng(0)
    drift = wandering(900, rng, memory=0.99)
    positions = np.arange(900.0)
    logs = drift + 0.02 * rng.normal(size=900)
    references = positions % 3 == 2

    window = best_window(logs[references], positions[references])
    found = drift_at(positions[~references], logs[references], positions[references], window=window)
    assert window > 0
    left = (logs[~references] - found).std()
    assert left < 0.3 * logs[~references].std()


def test_references_are_left_alone_where_nothing_drifts():
    rng = np.random.default_rng(0)
    logs, positions = 0.02 * rng.normal(size=300), np.arange(300.0)

    assert best_window(logs, positions) == 0
    assert not drift_at(positions, logs, positions, window=0).any()


def test_the_fastest_repeats_are_averaged_in_seconds():
    times = np.log([[4.0, 1.0, 2.0, 3.0]])

    assert np.exp(mean_of_fastest(times, 0.1)) == pytest.approx([1])
    assert np.exp(mean_of_fastest(times, 0.5)) == pytest.approx([1.5])
    assert np.exp(mean_of_fastest(times, 1.0)) == pytest.approx([2.5])


def test_halves_of_the_repeats_tell_how_far_a_sum_is_to_be_trusted():
    logs = np.array([[0.0, 0.1, 0.0, 0.1], [1.0, 1.0, 1.0, 1.0]])

    # the halves of the first are 0.1 apart: 0.1 / 2 * 1.2533
    assert repeat_noise(logs, 1.0) == pytest.approx([0.0627, 0], abs=1e-4)
    assert repeat_noise(logs[:, [0, 0, 1, 1]], 1.0) == pytest.approx([0, 0])


@pytest.mark.parametrize(("share", "rel"), [(1.0, 0.05), (0.5, 0.25)])
def test_the_noise_of_a_sum_is_its_deviation(share, rel):
    rng = np.random.default_rng(0)
    logs = rng.normal(scale=0.1, size=(4000, 16))

    found = repeat_noise(logs, share).mean()
    assert found == pytest.approx(mean_of_fastest(logs, share).std(), rel=rel)


@pytest.mark.parametrize(
    ("times", "held"),
    [
        (np.full(200, -4.0), True),  # padded, in a modelled world
        (np.random.default_rng(0).normal(scale=0.01, size=2000), False),
        (np.random.default_rng(0).normal(scale=0.3, size=2000), False),
        (-np.random.default_rng(0).exponential(scale=0.3, size=2000), False),  # early ones
        (np.random.default_rng(0).exponential(scale=0.3, size=2000), True),
        (np.random.default_rng(0).normal(scale=0.002, size=2000), True),  # a timer's own noise
    ],
)
def test_answers_that_wait_for_one_moment_are_known_by_their_floor(times, held):
    assert has_floor(times) is held


def test_the_step_of_a_coarse_clock_is_found_and_of_a_fine_one_none():
    rng = np.random.default_rng(0)
    seconds = 3e-3 * np.exp(0.3 * rng.normal(size=(60, 4)))
    for step in (1e-4, 7e-4):
        assert step_of_clock(np.log(np.ceil(seconds / step) * step)) == pytest.approx(step)
    assert step_of_clock(np.log(np.maximum(np.floor(seconds / 7e-4) * 7e-4, 1e-9))) > 0
    assert step_of_clock(np.log(seconds)) == 0
    exact = np.log(rng.choice([1.2e-3, 2.345678e-3, 4.1e-3 + 1e-9], size=(60, 4)))
    assert step_of_clock(exact) == 0  # a clock without noise
    assert step_of_clock(np.log(np.ceil(seconds / 1e-6) * 1e-6)) == 0
    assert step_of_clock(np.full((60, 4), np.log(2e-3))) == 0
