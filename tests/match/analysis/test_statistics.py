"""How sure a number is: hand-computed intervals, exact small tests, properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arena.analysis.intervals import bootstrap_interval, mean_interval, seeds_needed
from arena.analysis.paired_tests import effect_size, holm, paired_permutation_test

shares = st.lists(st.floats(0, 1), min_size=2, max_size=8)


def test_the_t_interval_of_three_values_is_the_one_of_the_table():
    # mean 2, standard deviation 1, t(0.975, 2) = 4.3027 from any printed table
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.mean == 2.0
    assert interval.low == pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-4)
    assert interval.high == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-4)
    assert interval.half_width == pytest.approx(2.4841, abs=1e-4)


def test_the_t_interval_takes_another_confidence():
    # t(0.95, 4) = 2.1318, standard deviation of 1..5 is sqrt(2.5)
    interval = mean_interval([1, 2, 3, 4, 5], 0.90)
    assert interval.half_width == pytest.approx(2.1318 * math.sqrt(2.5 / 5), abs=1e-4)


def test_one_value_has_a_mean_and_no_interval_and_says_so():
    interval = mean_interval([0.7])
    assert (interval.mean, interval.low, interval.high, interval.n) == (0.7, None, None, 1)
    assert not interval.known
    assert "no interval" in str(interval)


def test_an_interval_is_cut_to_what_is_possible():
    wide = mean_interval([0.9, 0.99])
    assert wide.high > 1
    assert wide.within(0, 1).high == 1
    assert mean_interval([0.9]).within(0, 1) == mean_interval([0.9])


@pytest.mark.parametrize("values", [[], [float("nan")], [1.0, math.inf], [[1.0]]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError, match="expected"):
        mean_interval(values)


@given(shares)
def test_the_interval_holds_its_mean_and_widens_with_confidence(values):
    narrow, wide = mean_interval(values, 0.8), mean_interval(values, 0.99)
    assert narrow.low <= narrow.mean <= narrow.high
    assert wide.low <= narrow.low
    assert wide.high >= narrow.high


def test_nineteen_of_twenty_t_intervals_hold_the_true_mean():
    generator = np.random.default_rng(7)
    samples = generator.normal(0.6, 0.05, size=(2000, 4))
    held = sum(
        interval.low <= 0.6 <= interval.high for interval in map(mean_interval, samples.tolist())
    )
    # 0.95 * 2000 = 1900, standard deviation 9.7
    assert 1860 <= held <= 1940


def test_the_bootstrap_agrees_with_the_t_interval_on_many_values():
    values = np.random.default_rng(1).normal(0.5, 0.1, size=200).tolist()
    bootstrap = bootstrap_interval(values, np.random.default_rng(0))
    student = mean_interval(values)
    assert bootstrap.mean == student.mean
    assert bootstrap.low == pytest.approx(student.low, abs=0.002)
    assert bootstrap.high == pytest.approx(student.high, abs=0.002)


def test_the_bootstrap_repeats_with_its_generator():
    values = [0.1, 0.4, 0.35, 0.8, 0.5]
    first = bootstrap_interval(values, np.random.default_rng(3))
    assert first == bootstrap_interval(values, np.random.default_rng(3))
    assert first != bootstrap_interval(values, np.random.default_rng(4))


def test_the_bootstrap_of_equal_or_single_values_does_not_fail():
    generator = np.random.default_rng(0)
    equal = bootstrap_interval([0.5, 0.5, 0.5], generator)
    assert (equal.low, equal.high) == (0.5, 0.5)
    assert bootstrap_interval([0.5], generator).low is None


def test_the_permutation_p_of_three_pairs_is_counted_by_hand():
    # differences 1, 2, 4: of the 8 sign choices only +++ and --- reach a sum of 7 in size
    test = paired_permutation_test([1.0, 2.0, 4.0], [0.0, 0.0, 0.0])
    assert test.exact
    assert test.p == 0.25
    assert test.smallest_p == 0.25
    assert test.difference == pytest.approx(7 / 3)


def test_the_permutation_p_counts_ties_in():
    # differences 1, 1, -1: |sum| >= 1 holds for every one of the 8 sign choices
    assert paired_permutation_test([1, 1, 0], [0, 0, 1]).p == 1.0
    # differences 3, 2, 1, -1 (sum 5): sums >= 5 are 7, 5, 5 and so 3 of 16 on each side
    assert paired_permutation_test([3, 2, 1, 0], [0, 0, 0, 1]).p == pytest.approx(6 / 16)


def test_nothing_differs_from_itself():
    assert paired_permutation_test([0.2, 0.3], [0.2, 0.3]).p == 1.0
    assert paired_permutation_test([0.9], [0.1]).p == 1.0
    assert paired_permutation_test([0.1 + 0.2] * 7, [0.3] * 7).p == 1.0  # rounding is no difference


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6))
def test_the_permutation_test_does_not_care_who_is_first(pairs):
    first, second = zip(*pairs, strict=True)
    one, other = paired_permutation_test(first, second), paired_permutation_test(second, first)
    assert one.p == pytest.approx(other.p)
    assert one.difference == pytest.approx(-other.difference)
    assert one.smallest_p <= one.p + 1e-12
    assert one.p <= 1


def test_many_pairs_need_a_generator_and_repeat_with_it():
    first, second = np.linspace(0, 1, 20).tolist(), np.linspace(0.02, 1.1, 20).tolist()
    with pytest.raises(ValueError, match="expected a generator for 20 pairs"):
        paired_permutation_test(first, second)
    test = paired_permutation_test(first, second, generator=np.random.default_rng(0))
    assert not test.exact
    assert test.p < 0.001
    assert test == paired_permutation_test(first, second, generator=np.random.default_rng(0))


def test_unpaired_values_are_refused():
    with pytest.raises(ValueError, match="expected pairs, got 2 and 1"):
        paired_permutation_test([1, 2], [1])


def test_effect_sizes_are_the_hand_computed_ones():
    # differences 1, 2, 3: mean 2, deviation 1. First is larger in 7 of 9, smaller in 1
    sizes = effect_size([3.0, 5.0, 7.0], [2.0, 3.0, 4.0])
    assert sizes.cohens_dz == pytest.approx(2.0)
    assert sizes.cliffs_delta == pytest.approx((7 - 1) / 9)


def test_differences_that_do_not_vary_have_no_dz():
    assert effect_size([0.3, 0.4, 0.5], [0.2, 0.3, 0.4]).cohens_dz is None
    assert effect_size([1.0], [0.0]).cohens_dz is None
    assert effect_size([1.0], [0.0]).cliffs_delta == 1.0


def test_the_seeds_needed_are_the_fewest_that_reach_the_half_width():
    values = [0.5, 0.6, 0.7]  # standard deviation 0.1
    # t(0.975, 17) / sqrt(18) = 0.49729 and t(0.975, 16) / sqrt(17) = 0.51416
    assert seeds_needed(values, 0.05) == 18
    assert seeds_needed(values, 0.0514) == 18
    assert seeds_needed(values, 0.0515) == 17


def test_one_seed_cannot_say_how_many_are_needed():
    assert seeds_needed([0.5], 0.1) is None
    assert seeds_needed([0.5, 0.5], 0.1) == 2
    with pytest.raises(ValueError, match="half width above 0"):
        seeds_needed([0.5, 0.6], 0)


def test_holm_by_hand():
    """Rising: 4 * 0.01; 3 * 0.02, 2 * 0.03 (lifted to 0.06), 1 * 0.04 (lifted to 0.06)."""
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.25]) == [0.25]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_corrects_the_least_like_bonferroni(values):
    adjusted = holm(values)
    assert all(raw <= one <= 1 for raw, one in zip(values, adjusted, strict=True))
    pairs = sorted(zip(values, adjusted, strict=True))
    assert [one for _, one in pairs] == sorted(adjusted)
    assert min(adjusted) == min(1.0, len(values) * min(values))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value_is_refused(wrong):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, wrong])
