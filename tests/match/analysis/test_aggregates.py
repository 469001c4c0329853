"""Players over all their opponents: interquartile means and profiles, as rliable defines them."""

import numpy as np
import pytest
from scipy import stats

from arena.analysis import aggregates
from arena.analysis.aggregates import (
    THRESHOLDS,
    aggregates_of,
    interquartile_means,
    stratified_draws,
)
from arena.analysis.episode_data import gather
from arena.report.plots.profiles import draw_profiles


def test_the_interquartile_mean_is_that_of_the_middle_half():
    # rliable's aggregate_iqm is scipy's trimmed mean with a quarter cut off at either end
    draws = np.random.default_rng(0).random((5, 33))
    assert interquartile_means(draws) == pytest.approx(stats.trim_mean(draws, 0.25, axis=1))
    assert interquartile_means(np.array([[0.0, 0.2, 0.4, 1.0]])) == pytest.approx([0.3])


def test_a_bootstrap_draws_within_each_opponent():
    strata = [np.array([0.0, 0.1]), np.array([5.0, 5.1, 5.2])]
    drawn = stratified_draws(strata, np.random.default_rng(0), resamples=500)
    assert drawn.shape == (500, 5)
    assert set(np.unique(drawn[:, :2])) == {0.0, 0.1}
    assert set(np.unique(drawn[:, 2:])) == {5.0, 5.1, 5.2}


def played(made_up, defenders, attackers=3, seeds=2):
    for defender, level in defenders.items():
        for number in range(attackers):
            for seed in range(seeds):
                clone = round(level + number / 10 + seed / 100, 2)
                made_up.play(f"a{number}", defender, seed, clone=clone)
    return gather(made_up.log, [row.id for row in reversed(made_up.log.episodes())])


def test_players_are_summed_up_over_opponents_and_seeds(made_up):
    data = played(made_up, {"undefended": 0.6, "dnf": 0.2})
    dnf, undefended = aggregates_of(data.board, "defender")
    assert (dnf.player, dnf.opponents, dnf.iqm.n) == ("dnf", 3, 6)
    # runs 0.20 0.21 0.30 0.31 0.40 0.41: one of six is cut off at either end
    assert dnf.iqm.mean == pytest.approx((0.21 + 0.30 + 0.31 + 0.40) / 4)
    assert dnf.iqm.low < dnf.iqm.mean < dnf.iqm.high
    at = int(np.flatnonzero(np.isclose(THRESHOLDS, 0.3))[0])
    assert dnf.profile[at - 1] == pytest.approx(4 / 6)
    assert (dnf.low <= dnf.profile).all()
    assert (dnf.profile <= dnf.high).all()
    assert undefended.profile[at] == 1.0


def test_too_few_opponents_or_seeds_are_not_summed_up(made_up):
    few = played(made_up, {"undefended": 0.6, "dnf": 0.2}, attackers=2)
    assert aggregates_of(few.board, "defender") == []
    assert draw_profiles(few) is None


def test_both_sides_are_drawn_where_each_met_enough(made_up):
    data = played(made_up, {"undefended": 0.6, "dnf": 0.2, "plain": 0.4})
    axes = draw_profiles(data).figure.axes
    assert len(axes) == 4
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [
        "dnf",
        "plain",
        "undefended",
    ]
    assert [text.get_text() for text in axes[1].texts] == ["undefended", "dnf"]


def test_profiles_of_draws_are_shares_above_each_threshold():
    """The bootstrap of one player, against its definition."""
    generator = np.random.default_rng(3)
    strata = [np.round(generator.random(n), 2) for n in (2, 3, 40)]
    strata[0][:], strata[1][0] = (0.5, 1.0), 0.0  # on thresholds
    found = aggregates._aggregate("x", strata, None)
    drawn = aggregates.stratified_draws(strata, np.random.default_rng(0))
    above = (drawn[:, :, None] > aggregates.THRESHOLDS).mean(1)
    low, high = np.percentile(aggregates.interquartile_means(drawn), [2.5, 97.5])
    assert (found.iqm.low, found.iqm.high) == (low, high)
    np.testing.assert_array_equal([found.low, found.high], np.percentile(above, [2.5, 97.5], 0))
    runs = np.concatenate(strata)
    np.testing.assert_array_equal(found.profile, (runs[:, None] > aggregates.THRESHOLDS).mean(0))
