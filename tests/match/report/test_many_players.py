"""Figures of many players stay readable: texts fit, few lines are named, shapes give way."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from arena.analysis.episode_data import gather
from arena.log.episode_filter import EpisodeFilter
from arena.report.html import render
from arena.report.plots.curves import draw_curves
from arena.report.plots.exits import draw_exits
from arena.report.plots.heat import draw_heat, heat_height
from arena.report.plots.matrix import draw_matrix
from arena.report.plots.style import settings, sheet
from arena.report.plots.tradeoff import draw_tradeoff

DEFENDERS = ["undefended", *(f"defence-{number}" for number in range(8))]


@pytest.fixture(scope="module")
def many(shared_made_up):
    """Nine defenders, each copied less than the one before, and one attacker."""
    for number, defender in enumerate(DEFENDERS):
        shared_made_up.play("dfme", defender, clone=round(0.9 - number / 10, 2))
    log = shared_made_up.log
    return gather(log, [row.id for row in reversed(log.episodes())])


@pytest.mark.parametrize("shape", [(17, 11), (3, 3)])
def test_the_text_of_every_square_fits_into_it(shape):
    rows, columns = (
        [f"player-{side}-{n}" for n in range(count)] for side, count in enumerate(shape)
    )
    values = np.linspace(0, 1, shape[0] * shape[1]).reshape(shape)
    texts = [[(f"{100 * value:.1f}", "100 to 100") for value in row] for row in values]
    with settings():
        figure, (ax,) = sheet(1, per_row=1, height=heat_height(rows, columns, lines=2))
        draw_heat(ax, values, texts, rows=rows, columns=columns)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    corner, other = ax.transData.transform([(0, 0), (1, 1)])
    wide, high = np.abs(other - corner)
    assert len(ax.texts) == shape[0] * shape[1]
    for text in ax.texts:
        box = text.get_window_extent(canvas.get_renderer())
        assert box.width <= 1.02 * wide
        assert box.height <= 1.02 * high


def test_players_of_the_matrix_are_sorted_and_the_larger_side_stands_in_rows(made_up):
    for attacker, shift in (("weak", -0.3), ("strong", 0.0)):
        for defender, clone in (("soft", 0.9), ("hard", 0.5), ("middle", 0.7)):
            made_up.play(attacker, defender, clone=round(clone + shift, 2))
    data = gather(made_up.log, [row.id for row in reversed(made_up.log.episodes())])
    ax = draw_matrix(data).figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["hard", "middle", "soft"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["strong", "weak"]
    assert [text.get_text() for text in ax.texts] == [
        "50.0",
        "20.0",
        "70.0",
        "40.0",
        "90.0",
        "60.0",
    ]


def test_of_many_lines_the_undefended_and_the_one_copied_least_are_named(many):
    (ax,) = draw_curves(many).figure.axes
    assert [text.get_text() for text in ax.texts] == ["undefended", "defence-7"]
    grey = [line for line in ax.get_lines() if line.get_color() == "#B0B0B0"]
    assert len(grey) == 7


def test_more_defenders_than_shapes_have_numbers(many):
    drawing = draw_tradeoff(many)
    figure = drawing.figure
    assert "In black: undecided" in drawing.caption
    assert "Half filled" not in drawing.caption
    assert [text.get_text() for text in figure.axes[0].texts] == [str(n) for n in range(1, 10)]
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text().startswith("1  undefended")


def test_many_panels_of_exits_stand_four_in_a_row(many):
    drawing = draw_exits(many)
    assert len(drawing.figure.axes) == 9
    assert drawing.figure.get_figheight() < 7


def test_a_few_seeds_are_dots_and_many_are_not(made_up):
    for seed in range(6):
        made_up.play(seed=seed)
    rows = [row.id for row in reversed(made_up.log.episodes())]
    counts = []
    for ids in (rows[:5], rows):
        (ax,) = draw_curves(gather(made_up.log, ids)).figure.axes
        counts.append(sum(line.get_marker() == "." for line in ax.get_lines()))
    assert counts == [5, 0]


def test_many_defenders_are_summed_up_before_each_is_told(shared_made_up):
    for number in range(12):
        for attacker, clone in (("dfme", 0.9), ("noise", 0.1 if number else 0.95)):
            shared_made_up.play(attacker, f"guard-{number}", clone=clone, scenario="summed")
    log = shared_made_up.log
    ids = [row.id for row in log.episodes(EpisodeFilter(scenario="summed"))]
    page = render(gather(log, ids))
    assert "<p>dfme against 11 of 12 defenders and noise against 1.</p>" in page
    assert page.count("<summary>Defender by defender</summary>") >= 1
