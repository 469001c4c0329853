"""What each defence brings and costs: paired, corrected, and no more sure than its tests."""

import numpy as np
import pytest

from arena.analysis.effects import LEVEL, defence_effects, effects_of
from arena.analysis.scoreboard import scoreboard
from arena.report.effects import effect_table
from envs.errors import UnknownName

IMAGES = 600
NAMES = ("undefended", *(f"d{number:02}" for number in range(8)))


def simulated(board, generator, better=(), seeds=5):
    """Simulate a log in which all are copied to 60 % on the mean, but for the better ones to 40."""
    truth = np.array([[0.4 if name in better else 0.6] for name in NAMES])
    chances = np.clip(generator.normal(truth, 0.03, (len(NAMES), seeds)), 0, 1)
    right = generator.binomial(IMAGES, chances)
    return effects_of(board(dict(zip(NAMES, right, strict=True)), IMAGES))


def shown(effects):
    return [one.defender for one in effects if one.effects["copied_less_best"].shown]


def test_of_equal_defenders_hardly_a_log_shows_an_effect(board):
    generator = np.random.default_rng(17)
    assert sum(bool(shown(simulated(board, generator))) for _ in range(20)) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 10])
def test_of_equal_defenders_at_most_one_log_in_twenty_shows_an_effect(board, seeds):
    generator = np.random.default_rng(17)
    logs = [simulated(board, generator, seeds=seeds) for _ in range(300)]
    assert sum(bool(shown(effects)) for effects in logs) <= 15


def test_those_that_are_better_are_shown_and_stand_first(board):
    found = simulated(board, np.random.default_rng(3), better=("d03", "d06"), seeds=8)
    assert sorted(shown(found)) == ["d03", "d06"]
    assert {one.defender for one in found[:2]} == {"d03", "d06"}


def test_an_interval_holds_no_difference_exactly_where_the_corrected_test_shows_none(board):
    generator = np.random.default_rng(5)
    for better in ((), NAMES[1:5], NAMES[1:]):
        for one in simulated(board, generator, better=better):
            effect = one.effects["copied_less_best"]
            assert (effect.interval.low > 0 or effect.interval.high < 0) == effect.shown
            assert effect.shown == (effect.adjusted_p <= LEVEL)


def plays(made_up, table, **options):
    """Play meetings of (attacker, defender) with clone accuracies by seed; give the scoreboard."""
    for (attacker, defender), scores in table.items():
        for seed, clone in enumerate(scores):
            if clone is not None:
                made_up.play(attacker, defender, seed, clone=clone, **options.get(defender, {}))
    return scoreboard(reversed(made_up.log.episodes()), as_given=True)


def test_the_differences_are_the_hand_computed_ones(made_up):
    board = plays(
        made_up,
        {
            ("a", "undefended"): (0.8, 0.6), ("b", "undefended"): (0.4, 0.7),
            ("a", "dnf"): (0.2, 0.1), ("b", "dnf"): (0.3, 0.5),
        },
        undefended={"served_accuracy": 0.95, "attack_compute_share": 1.0},
        dnf={"served_accuracy": 0.93, "attack_compute_share": 0.25},
    )  # fmt: skip
    (dnf,) = effects_of(board)
    assert dnf.attackers == ("a", "b")
    told = {kind: effect.gap.differences for kind, effect in dnf.effects.items()}
    assert told["copied_less_best"] == pytest.approx((0.8 - 0.3, 0.7 - 0.5))
    assert told["copied_less_mean"] == pytest.approx((0.6 - 0.25, 0.65 - 0.3))
    assert told["users_lose"] == pytest.approx((0.02, 0.02))
    assert told["attack_compute"] == pytest.approx((-0.75, -0.75))
    assert dnf.hardening.mean == 12.5


def test_an_attacker_that_met_one_side_alone_does_not_count(made_up):
    board = plays(
        made_up,
        {
            ("a", "undefended"): (0.8, 0.6), ("a", "dnf"): (0.2, 0.1), ("a", "plain"): (0.5, 0.5),
            ("b", "undefended"): (0.9, None), ("b", "dnf"): (None, 0.9),
            ("c", "undefended"): (0.95, 0.95), ("c", "plain"): (0.9, 0.9),
            ("d", "dnf"): (1.0, 1.0),
        },
    )  # fmt: skip
    found = {one.defender: one for one in effects_of(board)}
    gaps = {name: one.effects["copied_less_best"].gap for name, one in found.items()}
    # b met both sides, but on no common seed
    assert gaps["dnf"].differences == pytest.approx((0.6, 0.5))
    assert gaps["plain"].differences == pytest.approx((0.05, 0.05))
    assert "dnf: c" in effect_table(defence_effects(board)).note


def test_one_attacker_has_one_column_of_copies_and_one_seed_no_interval(made_up):
    board = plays(made_up, {("a", "undefended"): (0.8,), ("a", "dnf"): (0.2,)})
    table = effect_table(defence_effects(board))
    assert table.headings[:2] == ["copied less, best attack", "lost by benign users"]
    (line,) = table.lines
    assert line.cells[0] == ("+60.0", "", "")


def test_without_an_undefended_victim_there_is_no_table_and_a_name_that_is_missing_is_told(made_up):
    board = plays(made_up, {("a", "plain"): (0.8,), ("a", "dnf"): (0.2,)})
    assert effect_table(defence_effects(board)).lines == []
    with pytest.raises(UnknownName, match="undefended"):
        effects_of(board)
    assert [one.defender for one in effects_of(board, "plain")] == ["dnf"]


def test_what_came_from_the_cache_was_not_trained(made_up):
    cached = {"harden_seconds": 4e-5}
    board = plays(
        made_up, {("a", "undefended"): (0.8,), ("a", "dnf"): (0.2,)}, dnf=cached, undefended=cached
    )
    assert effects_of(board)[0].hardening is None


def test_the_image_variance_of_the_best_attack_is_that_of_its_clones(episode_row):
    """Weak attacks beside it were never the best, and say nothing of how surely it is scored."""

    def variance(weak, seeds=5):
        rows = [
            episode_row(name, defender, seed, clone_accuracy=(right + seed) / 360)
            for defender, strong in (("undefended", 340), ("dnf", 325))
            for name, right in (("strong", strong), *((f"weak{n}", 37) for n in range(weak)))
            for seed in range(seeds)
        ]
        rows += [episode_row("once", "dnf", 0, clone_accuracy=0.99)]  # the control never met it
        return defence_effects(scoreboard(rows))[0].effects["copied_less_best"].gap.variance

    assert variance(7) == pytest.approx(variance(0))
