"""The figure of a scenario at many settings, and the report that goes with it."""

import pytest

from arena.analysis.episode_data import gather
from arena.report.html import MANY, render
from arena.report.plots.figures import MOST_GAMES, drawn_games
from arena.report.plots.over_settings import dots_of, draw_over_settings


def swept(made_up, budgets, networks=("a",)):
    """Play a scenario at several settings; clones get better with the budget."""
    for budget in budgets:
        for network in networks:
            for attacker, better in (("dfme", 0.0), ("noise", -0.1)):
                for seed in range(2):
                    made_up.play(
                        attacker, "dnf", seed, clone=budget / 10_000 + 0.2 * seed + better + 0.1,
                        plan={"threat": {"budget": budget}, "clone": {"use": network}},
                        curve=(), exits=None,
                    )  # fmt: skip
    return gather(made_up.log, [row.id for row in made_up.log.episodes()])


def test_a_dot_is_the_best_clone_of_each_seed_of_a_game(made_up):
    dots, keys = dots_of(swept(made_up, (1000, 3000), ("a", "b")).board)
    assert keys == ["clone.use", "threat.budget"]
    assert {(dot.values["threat.budget"], dot.values["clone.use"]): dot.clone for dot in dots} == {
        (1000, "a"): pytest.approx(0.3), (1000, "b"): pytest.approx(0.3),
        (3000, "a"): pytest.approx(0.5), (3000, "b"): pytest.approx(0.5),
    }  # fmt: skip


def test_every_setting_has_a_panel_and_a_wide_one_a_logarithmic_axis(made_up):
    drawing = draw_over_settings(swept(made_up, (10, 300, 3000), ("a", "b")))
    network, budget = drawing.figure.axes
    assert (network.get_xlabel(), budget.get_xlabel()) == ("clone.use", "threat.budget")
    assert (network.get_xscale(), budget.get_xscale()) == ("linear", "log")
    assert [text.get_text() for text in network.get_xticklabels()] == ["a", "b"]
    *_, line = budget.lines
    assert line.get_xydata()[:, 0].tolist() == [10, 300, 3000]
    assert line.get_xydata()[-1, 1] == pytest.approx(0.5)
    assert len(drawing.points) == 1 + 6


def test_one_setting_is_no_sweep(made_up):
    assert draw_over_settings(swept(made_up, (1000,))) is None


def test_of_many_games_the_report_draws_the_settings_and_not_each_game(made_up):
    few = swept(made_up, range(100, 100 + MOST_GAMES))
    assert len(drawn_games(few)) == MOST_GAMES
    many = swept(made_up, (500,))
    assert drawn_games(many) == set()
    page = render(many)
    assert "made-up at its settings" in page
    assert "<h1>Model extraction: made-up</h1>" in page
    assert page.count("<svg") == 1
    assert page.count(MANY) == MOST_GAMES + 1


def test_defenders_with_other_values_of_a_setting_share_their_places(made_up):
    for network, clone in (("alpha", 0.3), ("beta", 0.5), ("gamma", 0.9)):
        plan = {"clone": {"use": network}}
        made_up.play("dfme", "first", 0, clone=clone, plan=plan)
        if network != "alpha":
            made_up.play("dfme", "second", 0, clone=clone - 0.1, plan=plan)
    data = gather(made_up.log, [row.id for row in made_up.log.episodes()])
    (ax,) = draw_over_settings(data).figure.axes
    assert [one.get_text() for one in ax.get_xticklabels()] == ["alpha", "beta", "gamma"]
    lines = {line.get_label(): line.get_xydata().tolist() for line in ax.lines}
    assert lines["second"] == [[1.0, 0.4], [2.0, 0.8]]
