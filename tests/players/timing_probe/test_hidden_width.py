"""Reading width and thresholds off soft answers grouped by exit."""

import pytest
import torch

from agents.timing_probe.hidden_width import hidden_width
from agents.timing_probe.thresholds import estimate_thresholds


def answers(width, *, n=400, classes=100, seed=0, bias=True):
    """Posteriors of random features behind a linear layer."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, width, generator=generator).relu()
    weights = torch.randn(width, classes, generator=generator) / width**0.5
    offset = torch.randn(classes, generator=generator) if bias else torch.zeros(classes)
    return (features @ weights + offset).softmax(1)


@pytest.mark.parametrize("width", [16, 24, 32, 64])
def test_the_width_behind_a_hundred_classes_is_read_exactly(width):
    assert hidden_width(answers(width)) == width


@pytest.mark.parametrize("width", [98, 128])
def test_a_width_near_the_number_of_classes_is_not_identifiable(width):
    assert hidden_width(answers(width)) is None


def test_ten_classes_tell_no_width():
    assert hidden_width(answers(64, classes=10)) is None


def test_rounding_and_labels_destroy_the_rank():
    posteriors = answers(32)

    assert hidden_width((posteriors * 1e4).round() / 1e4) is None
    assert hidden_width(torch.eye(100)[posteriors.argmax(1)]) is None


def test_answers_of_two_exits_together_mislead_and_grouped_they_do_not():
    first, second = answers(16, seed=0), answers(24, seed=1)

    assert hidden_width(torch.cat([first, second])) not in (16, 24)
    assert (hidden_width(first), hidden_width(second)) == (16, 24)


def test_too_few_answers_tell_no_width():
    assert hidden_width(answers(32, n=20)) is None
    assert hidden_width(answers(32, n=0)) is None


def test_uniform_answers_have_no_width():
    rounded = torch.full((60, 10), 0.1) + 1e-8 * torch.randn(60, 10)
    assert hidden_width(torch.full((60, 10), 0.1)) is None
    assert hidden_width(rounded) is None


def confident(threshold, n, generator):
    """Two-class answers of confidence uniform above the threshold."""
    top = threshold + (1 - threshold) * torch.rand(n, generator=generator, dtype=torch.float64)
    return torch.stack([top, 1 - top], 1)


def test_thresholds_are_approached_from_above_and_within_half_a_percent():
    """Acceptance: never below the true one, and within 0.005 with 500 answers."""
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        true = (0.9, 0.8, 0.95)
        groups = [confident(t, 500, generator) for t in true] + [confident(0.5, 500, generator)]
        exits = torch.arange(4).repeat_interleave(500)
        found = estimate_thresholds(torch.cat(groups), exits, 4)

        for value, threshold in zip(found.values, true, strict=True):
            assert threshold < value < threshold + 0.005
        assert max(found.excess) < 0.002


def test_few_answers_or_one_exit_tell_no_threshold():
    generator = torch.Generator().manual_seed(0)
    posteriors = confident(0.9, 20, generator)

    assert estimate_thresholds(posteriors, torch.zeros(20, dtype=torch.int64), 1) is None
    assert estimate_thresholds(posteriors, torch.tensor([0] * 5 + [1] * 15), 2) is None


def test_one_confidence_for_all_is_no_threshold():
    """A defence that answers early with a constant shows where it put that, and no limit."""
    generator = torch.Generator().manual_seed(0)
    constant = torch.tensor([[0.97, 0.03]], dtype=torch.float64).repeat(200, 1)
    deepest = confident(0.5, 200, generator)
    exits = torch.arange(2).repeat_interleave(200)
    assert estimate_thresholds(torch.cat([constant, deepest]), exits, 2) is None
    rounded = (confident(0.9, 200, generator) * 1e3).round() / 1e3
    found = estimate_thresholds(torch.cat([rounded, deepest]), exits, 2)
    assert found.values[0] == pytest.approx(0.9, abs=0.005)
