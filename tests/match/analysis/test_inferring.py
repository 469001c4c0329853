"""What attackers said of the victim, with unknowns in the denominator, and how sure they were."""

import pytest

from arena.analysis.episode_data import gather
from arena.analysis.inferring import Verdicts, calibration_of, inferred_by, verdicts_on
from arena.log.rows import InferenceRow
from arena.report.inferred import _told
from arena.report.plots.inferences import draw_calibration, draw_inferences
from arena.report.tables import inference_lines


def said(correct, *, inferred=3, truth=3, confidence=None):
    return InferenceRow(
        attribute="exits", inferred=inferred, truth=truth, correct=correct, confidence=confidence
    )


RIGHT, WRONG = said(True, confidence=0.9), said(False, inferred=2, confidence=0.7)
UNKNOWN = said(None, inferred=None)
UNJUDGED = said(None, truth=None)


def test_unknowns_stand_in_the_denominator_and_what_nobody_can_judge_does_not():
    counts = verdicts_on([RIGHT, RIGHT, WRONG, UNKNOWN, UNJUDGED])
    assert counts == (2, 1, 1)
    assert counts.judged == 4
    assert verdicts_on([UNJUDGED]) is None


def test_a_calibration_is_the_hand_computed_one():
    found = calibration_of([RIGHT, RIGHT, said(False, confidence=0.9), WRONG, UNKNOWN])
    low, high = found.bins
    assert (low.confidence, low.right.mean, low.right.n) == (pytest.approx(0.7), 0.0, 1)
    assert (high.confidence, high.right.n) == (pytest.approx(0.9), 3)
    # three with 0.9 of which two are right, one with 0.7 that is wrong
    assert found.error == pytest.approx((3 * (0.9 - 2 / 3) + 0.7) / 4)
    assert found.brier == pytest.approx((2 * 0.01 + 0.81 + 0.49) / 4)
    assert calibration_of([UNKNOWN, said(True)]) is None


def test_certainty_falls_into_the_highest_range():
    (only,) = calibration_of([said(True, confidence=1.0)]).bins
    assert only.confidence == 1.0


@pytest.fixture
def data(made_up):
    """Two seeds against dnf, one of them unknown, and one against plain that was wrong."""
    rows = {name: getattr(row, name) for row in (RIGHT,) for name in
            ("attribute", "inferred", "truth", "correct", "confidence")}  # fmt: skip
    made_up.play("probe", "dnf", 0, inferences=[rows])
    unknown = rows | {"inferred": None, "correct": None, "confidence": None}
    made_up.play("probe", "dnf", 1, inferences=[unknown])
    made_up.play("probe", "plain", 0, inferences=[rows | {"inferred": 2, "correct": False}])
    made_up.play("noise", "dnf", 0)
    return gather(made_up.log, [row.id for row in reversed(made_up.log.episodes())])


def test_each_attacker_that_says_something_has_a_table_by_defender(data):
    (probe,) = inferred_by(data.board, data.inferences)
    assert probe.attacker == "probe"
    assert probe.verdicts["dnf"]["exits"] == (1, 0, 1)
    assert probe.verdicts["plain"]["exits"] == (0, 1, 0)
    assert probe.calibration.n == 2


def test_the_squares_say_right_of_all_and_how_many_unknown(data):
    ax = draw_inferences(data).figure.axes[0]
    assert [text.get_text() for text in ax.texts] == ["1/2\n1 unknown", "0/1"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["dnf", "plain"]


def test_the_calibration_is_drawn_with_its_error_where_enough_was_said(made_up, data):
    assert draw_calibration(data) is None
    statements = [
        {"attribute": f"a{n}", "inferred": 3, "truth": 3, "correct": n < 5, "confidence": 0.9}
        for n in range(10)
    ]
    made_up.play("sure", inferences=statements)
    (ax,) = draw_calibration(
        gather(made_up.log, [row.id for row in made_up.log.episodes()])
    ).figure.axes
    # half of what was said with 0.9 is right
    assert "sure: off by 40.0%" in ax.get_legend_handles_labels()[1]


def test_without_inferences_nothing_is_drawn(made_up):
    made_up.play()
    data = gather(made_up.log, [row.id for row in made_up.log.episodes()])
    assert draw_inferences(data) is None
    assert draw_calibration(data) is None


def test_the_table_counts_unknowns_too(data):
    lines = {line.meeting: line.correct for line in inference_lines(data)}
    assert lines["probe / dnf"] == "1 of 2 (1 unknown)"
    assert lines["probe / plain"] == "0 of 1"


def test_all_who_are_right_equally_often_are_named():
    both = {"a": Verdicts(3, 0, 0), "b": Verdicts(3, 0, 0)}
    assert "most often by a, in 3 of 3 episodes and b, in 3 of 3 episodes" in _told(both)
    assert "most often by b, in 3 of 3 episodes." in _told({**both, "a": Verdicts(2, 1, 0)})
