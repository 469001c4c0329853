"""When an attack began to work: queries to an accuracy, censored seeds, area under the curve."""

from types import SimpleNamespace

import pytest
from scipy import stats

from arena.analysis import frames
from arena.analysis.episode_data import gather
from arena.analysis.learning import Delay, learning_of, track_of
from arena.log.metric import UNTRAINED
from arena.log.rows import CheckpointRow
from arena.report.learning import (
    _reach,
    _shortly,
    delay_cell,
    learning_finding,
    learning_table,
)


def points(*triples):
    """Make checkpoints out of queries, accuracy and whether the clone was untrained."""
    return [
        CheckpointRow(index=index, queries_used=queries, wall_seconds=0.0, clone_accuracy=score,
                      metrics={UNTRAINED: 1.0} if untrained else {})
        for index, (queries, score, untrained) in enumerate(triples)
    ]  # fmt: skip


def learnt(made_up, **options):
    rows = made_up.log.episodes()
    data = gather(made_up.log, [row.id for row in reversed(rows)])
    return learning_of(data.board, data.checkpoints, **options)


def test_an_accuracy_is_reached_at_the_first_checkpoint_that_shows_it():
    track = track_of(points((100, 0.2, False), (200, 0.6, False), (300, 0.5, False)))
    assert [track.reached(level) for level in (0.2, 0.5, 0.6, 0.61)] == [100, 200, 200, None]


def test_the_area_is_the_hand_computed_mean_along_the_budget():
    track = track_of(points((100, 0.3, False), (200, 0.5, False)))
    # a guess of 0.1 at 0: means 0.2 and 0.4 over the first two hundred, then 0.5 for two hundred
    assert track.area(0.1, budget=400) == pytest.approx((0.2 + 0.4 + 2 * 0.5) / 4)


@pytest.mark.parametrize(
    "measured",
    [
        points((100, 0.1, True), (200, 0.1, True), (300, 0.7, False)),
        points((100, None, False), (200, None, False), (300, 0.7, False)),
    ],
)
def test_a_clone_that_is_trained_at_the_end_is_one_point_without_an_area(measured):
    track = track_of(measured)
    assert track.points == ((300, 0.7),)
    assert track.at_end
    assert track.area(0.1, budget=300) is None


def test_a_clone_that_stays_at_chance_or_moves_before_the_end_is_a_curve():
    """One that has collapsed measures the same for long, and was trained all the while."""
    for scores in ((0.1, 0.1, 0.1), (0.1, 0.1, 0.7), (0.1, 0.12, 0.7)):
        track = track_of(points(*((100 * n, score, False) for n, score in enumerate(scores))))
        assert len(track.points) == 3
        assert not track.at_end


def test_above_chance_is_a_binomial_test_corrected_for_the_number_of_checkpoints():
    hits = next(k for k in range(100) if stats.binom.sf(k - 1, 100, 0.1) <= 0.05)
    alone = track_of(points((100, hits / 100, False)))
    assert alone.above_chance(0.1, images=100) == 100
    one_of_ten = track_of(points(*((100 * n, hits / 100, False) for n in range(1, 11))))
    assert one_of_ten.above_chance(0.1, images=100) is None
    assert alone.above_chance(0.1, images=None) is None


def test_clones_that_guess_are_rarely_called_better_at_any_of_ten_checkpoints():
    generator = stats.binom(360, 0.1)
    scores = generator.rvs(size=(300, 10), random_state=0) / 360
    tracks = [
        track_of(points(*((n, score, False) for n, score in enumerate(row)))) for row in scores
    ]
    wrong = sum(track.above_chance(0.1, images=360) is not None for track in tracks)
    assert wrong <= 0.05 * 300


def test_a_median_over_seeds_takes_those_that_never_came_for_the_latest():
    assert Delay((100, 200, None), 300).median == 200
    assert Delay((100, None, None), 300).median is None
    assert Delay((100, 200), 300).median == 100  # half of the seeds


def test_the_interval_of_a_median_is_the_textbooks_order_statistics():
    # Conover's table: with 10 values the 2nd and the 9th; with 6 the first and the last
    assert Delay((*range(1, 9), None, None), 99).ends == (2, None)
    assert Delay((*range(1, 10), None), 99).ends == (2, 9)
    six = Delay(tuple(range(1, 7)), 99)
    assert (six.ends, six.is_interval) == ((1, 6), True)
    five = Delay(tuple(range(1, 6)), 99)
    assert (five.ends, five.is_interval) == ((1, 5), False)


def test_a_cell_says_that_seeds_never_came():
    some = delay_cell(Delay((2000, 3000, None), 5000))
    assert some == ("3,000", "2,000 to > 5,000", "in 2 of 3 seeds")
    assert delay_cell(Delay((None, None), 5000)) == ("> 5,000", "", "in 0 of 2 seeds")


def test_the_table_has_a_column_for_each_accuracy_that_somebody_reached(made_up):
    for seed in range(2):
        made_up.play("dfme", seed=seed, clone=0.8, curve=((250, 0.355), (1000, 1.0)))
        curve = ((250, 0.1), (500, 0.1), (1000, 1.0))
        made_up.play("late", seed=seed, clone=0.3, curve=curve, untrained=2)
    found = learnt(made_up)
    table = learning_table(found)
    assert table.headings[:-1] == ["above chance by", "25% by", "50% by", "75% by"]
    dfme, late = table.lines
    assert [cell.mean for cell in dfme.cells] == ["250", "250", "1,000", "1,000", "45.5%"]
    assert late.cells[-1].mean == "trained at the end"
    (finding,) = learning_finding(found)
    assert "dfme first" in finding.answers[0].text


def test_clones_at_chance_make_no_table_and_are_said_to_show_nothing(made_up):
    for seed in range(2):
        made_up.play(seed=seed, clone=0.1, curve=((500, 1.0), (1000, 1.0)))
    found = learnt(made_up)
    assert learning_table(found).lines == []
    assert "no checkpoint" in learning_finding(found)[0].answers[0].text


def test_a_seed_whose_clone_collapsed_is_in_the_mean_over_the_budget(made_up):
    for seed, share in enumerate((0.1, 0.9)):
        made_up.play(seed=seed, clone=1.0, curve=((250, share), (500, share), (1000, 1.0)))
    (found,) = learnt(made_up)
    assert found.area.n == 2
    assert not found.at_end


def test_one_checkpoint_at_the_end_is_no_course(made_up):
    made_up.play("dfme", "dnf", 0, clone=0.8, curve=((1000, 0.8),))
    assert learnt(made_up) == []


def test_the_frame_has_a_row_for_each_play_and_accuracy(made_up):
    made_up.play(clone=0.8, curve=((500, 0.5), (1000, 1.0)))
    frame = frames.learning(made_up.log, accuracies=(0.3, 0.9))
    assert frame.accuracy.tolist() == [0.3, 0.9]
    assert frame.queries_used.tolist()[0] == 500
    assert frame.queries_used.isna().tolist() == [False, True]
    assert (frame.budget == 1000).all()


def test_meetings_that_never_showed_anything_are_one_sentence(made_up):
    made_up.play("dfme", clone=0.8)
    made_up.play("noise", clone=0.1, curve=((500, 1.0), (1000, 1.0)))
    made_up.play("noise", "plain", clone=0.1, curve=((500, 1.0), (1000, 1.0)))
    table = learning_table(learnt(made_up))
    assert [line.row.attack for line in table.lines] == ["dfme"]
    assert table.never == "noise against dnf and plain"


def test_what_is_told_of_all_seeds_holds_for_each_of_them(made_up):
    nine = Delay((1000, *[2000] * 7, None), 20_000)
    assert delay_cell(nine).interval == "2,000 to 2,000"
    assert "in each of" not in _reach(nine)
    assert "came in 8 of 9 seeds" in _reach(nine)
    later = Delay((1000, *[2000] * 7, 3000), 20_000)
    assert "in each of" not in _reach(later)
    assert _reach(Delay((2000,) * 9, 20_000)) == "in each of 9 seeds"


def test_the_short_answer_says_that_the_median_seed_never_came():
    once = Delay((1000, None, None), 20_000)
    first = SimpleNamespace(row=SimpleNamespace(attack="dfme", scores={}), above_chance=once)
    assert "by > 20,000 of 20,000 queries" in _shortly([(first, once)])
    always = Delay((1000, 1000, 2000), 20_000)
    assert "by 1,000 of 20,000 queries" in _shortly([(first, always)])
