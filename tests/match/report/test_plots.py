"""Figures show the numbers of the log, come out alike each time, and say when there are none."""

import io
import re
from itertools import pairwise

import pytest

from arena.analysis.episode_data import exit_counts, gather
from arena.analysis.front import standings
from arena.analysis.metrics import chance_level
from arena.log.rows import CheckpointRow, RoundRow
from arena.report.plots import write_figures
from arena.report.plots.curves import curve, draw_curves
from arena.report.plots.exits import BENIGN, draw_exits, exit_shares
from arena.report.plots.figures import file_stems
from arena.report.plots.matrix import draw_matrix
from arena.report.plots.style import inline_svg, pen, settings, shortened
from arena.report.plots.tradeoff import draw_tradeoff
from envs.errors import ArenaError


def episode_data_of(made_up):
    return gather(made_up.log, [row.id for row in reversed(made_up.log.episodes())])


def points(*pairs):
    return [
        CheckpointRow(index=index, queries_used=queries, wall_seconds=0.0, clone_accuracy=score)
        for index, (queries, score) in enumerate(pairs)
    ]


def lines_of(figure):
    """The plotted lines of all panels by label, reference lines included."""
    return {line.get_label(): line for ax in figure.axes for line in ax.get_lines()}


def test_a_curve_averages_the_seeds_at_each_measurement():
    line = curve([points((100, 0.2), (200, 0.4)), points((100, 0.4), (200, 0.8))])
    assert line.queries == [100, 200]
    assert [score.mean for score in line.scores] == pytest.approx([0.3, 0.6])
    assert [score.n for score in line.scores] == [2, 2]


def test_seeds_measured_elsewhere_are_read_between_their_points_and_no_further():
    line = curve([points((100, 0.2), (300, 0.6)), points((200, 0.8), (400, 1.0))])
    # both reach from 200 to 300; the first is 0.4 at 200, the second 0.9 at 300
    assert line.queries == [200, 300]
    assert [score.mean for score in line.scores] == pytest.approx([0.6, 0.75])


def test_a_measurement_that_is_missing_is_no_point():
    assert curve([points((100, None), (200, 0.5))]).queries == [200]
    assert curve([points((100, None))]).queries == []
    assert curve([]).queries == []


def test_the_drawn_line_has_the_means_victim_and_chance(made_up):
    for seed, clone in enumerate([0.4, 0.6]):
        made_up.play(seed=seed, clone=clone, curve=[(500, 0.5), (1000, 1.0)])
    lines = lines_of(draw_curves(episode_data_of(made_up)).figure)
    assert lines["dfme / dnf"].get_xdata() == pytest.approx([500, 1000])
    assert lines["dfme / dnf"].get_ydata() == pytest.approx([0.25, 0.5])
    assert lines["victim, undefended (95.0%)"].get_ydata() == pytest.approx([0.95, 0.95])
    assert lines["chance (10.0%)"].get_ydata() == pytest.approx([0.1, 0.1])


def test_many_meetings_get_a_panel_for_each_attacker(made_up):
    for attacker in "abc":
        for defender in "xyz":
            made_up.play(attacker, defender, exits=None)
    figure = draw_curves(episode_data_of(made_up)).figure
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a", "b", "c"]


def test_exit_shares_are_the_hand_computed_ones(made_up):
    made_up.play(seed=0, exits=((600, 300, 100), (20, 30, 200)))
    made_up.play(seed=1, exits=((400, 400, 200), (0, 50, 200)))
    shares = exit_shares(episode_data_of(made_up))["dnf"]
    assert [score.mean for score in shares["dfme"]] == pytest.approx([0.5, 0.35, 0.15])
    assert [score.mean for score in shares[BENIGN]] == pytest.approx([0.04, 0.16, 0.8])
    assert shares["dfme"][0].n == 2


def test_benign_users_of_all_attackers_are_one_series(made_up):
    made_up.play("a", exits=((100, 0), (10, 10)))
    made_up.play("b", exits=((100, 0), (30, 10)))
    shares = exit_shares(episode_data_of(made_up))["dnf"]
    assert list(shares) == ["a", BENIGN, "b"]
    assert shares[BENIGN][0].mean == pytest.approx(40 / 60)
    assert shares[BENIGN][0].n == 1  # one seed, however many attackers


def test_each_deployed_defence_has_its_own_exits(made_up):
    """Benign users got the bare victim's only exit, the attacker the fortress's first."""
    plan = {"defender": {"defence": [{"use": "undefended"}, {"use": "dnf"}]}}
    made_up.play(defender="detector", exits=(((100,), (900, 0)), ((250,), (0, 0))), plan=plan)
    shares = exit_shares(episode_data_of(made_up))
    means = {
        panel: {who: [score.mean for score in scores] for who, scores in series.items()}
        for panel, series in shares.items()
    }
    assert means == {
        "detector: undefended": {"dfme": [pytest.approx(0.1)], BENIGN: [1.0]},
        "detector: dnf": {"dfme": [pytest.approx(0.9), 0.0], BENIGN: [0.0, 0.0]},
    }


def test_a_victim_without_early_exits_has_one_bar_for_the_whole_network(made_up):
    made_up.play(exits=((1000,), (250,)))
    (ax,) = draw_exits(episode_data_of(made_up)).figure.axes
    assert [label.get_text() for label in ax.get_xticklabels()] == ["whole network"]
    assert {bar.get_height() for bar in ax.patches} == {1.0}


def test_traffic_that_never_came_has_no_bars(made_up):
    made_up.play(exits=((600, 400), (0, 0)))
    assert list(exit_shares(episode_data_of(made_up))["dnf"]) == ["dfme"]


def test_exit_counts_of_buckets_of_other_lengths_add_up():
    def bucket(number, exits):
        return RoundRow(
            bucket=number,
            first_round=0,
            rounds=1,
            attack_answered=0,
            benign_answered=0,
            queries_used=0,
            attack_exits=exits,
        )

    buckets = [bucket(0, ((1, 2),)), bucket(1, ((1, 1, 5), (4,))), bucket(2, None)]
    assert exit_counts(buckets).attack == ((2, 3, 5), (4,))
    assert exit_counts([]) == ((), ())


def test_a_defender_stands_where_the_best_attack_puts_it(made_up):
    made_up.play("weak", clone=0.2)
    made_up.play("strong", clone=0.6)
    (place,) = standings(episode_data_of(made_up).board)
    assert (place.worst.attacker, place.defender) == ("strong", "dnf")
    assert [row.attacker for row in place.rows] == ["weak", "strong"]


def test_the_matrix_has_each_mean_in_its_square(made_up):
    for attacker, defender, clone in [("a", "x", 0.2), ("b", "x", 0.4), ("b", "y", 0.9)]:
        for seed in range(2):
            made_up.play(attacker, defender, seed, clone=clone + seed / 10)
    ax = draw_matrix(episode_data_of(made_up)).figure.axes[0]
    squares = {t.get_position(): t.get_text().splitlines()[0] for t in ax.texts}
    assert squares == {(0, 0): "45.0", (0, 1): "25.0", (1, 0): "95.0"}


def test_a_matrix_of_one_square_has_an_area(made_up):
    made_up.play()
    ax = draw_matrix(episode_data_of(made_up)).figure.axes[0]
    (mesh,) = ax.collections
    box = mesh.get_datalim(ax.transData)
    assert (box.width, box.height) == (1, 1)


def test_no_two_pens_are_alike():
    pens = [(p.colour, str(p.dashes), p.marker) for p in map(pen, range(40))]
    assert len(set(pens)) == 40
    # neighbours differ in everything, so that they differ in grey as well
    for one, other in pairwise(pens):
        assert all(a != b for a, b in zip(one, other, strict=True))


def test_the_same_log_gives_the_same_bytes(made_up, tmp_path):
    ids = [made_up.play(seed=seed, clone=0.4 + seed / 10) for seed in range(2)]
    first = write_figures(made_up.log, ids, tmp_path / "one", formats=["svg"])
    again = write_figures(made_up.log, ids, tmp_path / "two", formats=["svg"])
    assert [path.name for path in first] == [
        "made-up-clone-accuracy.svg",
        "made-up-tradeoff.svg",
        "made-up-matrix.svg",
        "made-up-exits.svg",
    ]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_each_scenario_gets_its_own_files_and_pictures_are_pictures(made_up, tmp_path):
    ids = [
        made_up.play(scenario=name, exits=None, served_accuracy=None, full_macs=None)
        for name in ("one", "two")
    ]
    paths = write_figures(made_up.log, ids, tmp_path, formats=["png"])
    assert {path.name for path in paths} == {
        f"{name}-{figure}.png" for name in ("one", "two") for figure in ("clone-accuracy", "matrix")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_hostile_names_become_harmless_files_and_are_drawn_as_they_are(made_up, tmp_path):
    name = "../$\\frac{<script>--><b>" + "x" * 200
    id = made_up.play(name, "$", scenario="../../etc/passwd", exits=None)
    (path, *_) = write_figures(made_up.log, [id], tmp_path, formats=["svg"])
    assert path.parent == tmp_path
    assert path.name.startswith("etc-passwd-")
    assert file_stems(["a b", "a-b", "//"]) == ["a-b", "a-b-2", "scenario"]
    svg = inline_svg(draw_curves(gather(made_up.log, [id])), prefix="p")
    assert "script" not in svg


def test_nothing_is_cut_off_at_the_edge(made_up):
    for attacker in ["an-attacker-with-a-long-name", "b"]:
        for number in range(7):
            made_up.play(attacker, f"a-defender-with-a-rather-long-name-number-{number}")
    episode_data = episode_data_of(made_up)
    for draw in (draw_curves, draw_exits, draw_tradeoff, draw_matrix):
        figure = draw(episode_data).figure
        with settings():
            figure.savefig(io.BytesIO(), dpi=figure.dpi)  # lays it out
            box, inches = figure.get_tightbbox(), figure.get_size_inches()
        assert box.x0 >= -0.01, draw
        assert box.y0 >= -0.01, draw
        assert box.x1 <= inches[0] + 0.01, draw
        assert box.y1 <= inches[1] + 0.01, draw


def test_names_are_cut_to_length_and_kept_apart():
    cut = shortened(["short", "a" * 30 + "x" + "b" * 30, "a" * 30 + "y" + "b" * 30], 20)
    assert cut["short"] == "short"
    assert len(set(cut.values())) == 3
    assert all(len(label) <= 23 for label in cut.values())


def test_an_inline_figure_has_its_own_ids_and_loads_nothing(made_up):
    made_up.play()
    svg = inline_svg(draw_exits(episode_data_of(made_up)), prefix="here")
    assert svg.startswith("<svg")
    assert "<!--" not in svg
    assert "http" not in svg
    ids = re.findall(r'\bid="([^"]*)"', svg)
    assert ids
    assert all(id.startswith("here-") for id in ids)
    used = re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', svg)
    assert {a or b for a, b in used} <= set(ids)


def test_missing_data_give_no_figure_and_no_failure(made_up, tmp_path):
    id = made_up.play(
        clone=None, exits=None, served_accuracy=None, attack_macs_mean=None, curve=[(10, 1)]
    )
    episode_data = episode_data_of(made_up)
    for draw in (draw_curves, draw_exits, draw_tradeoff, draw_matrix):
        assert draw(episode_data) is None
    with pytest.raises(ArenaError, match="nothing to draw"):
        write_figures(made_up.log, [id], tmp_path)


def test_an_unknown_format_is_refused(made_up, tmp_path):
    with pytest.raises(ArenaError, match="expected figures as png, svg, pdf"):
        write_figures(made_up.log, [made_up.play()], tmp_path, formats=["bmp"])


def test_a_folder_that_cannot_be_made_is_said_in_one_line(made_up, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ArenaError, match="cannot write figures"):
        write_figures(made_up.log, [made_up.play()], tmp_path / "file" / "x", formats=["png"])


def test_chance_is_one_of_the_classes(made_up):
    for num_classes, chance in ((10, 0.1), (200, 0.005), (None, None)):
        episode = made_up.log.episode(made_up.play(seed=num_classes or 0, num_classes=num_classes))
        assert chance_level(episode) == chance
