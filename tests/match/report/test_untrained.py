"""Before a clone is trained its accuracy means nothing: no page draws it, or a slope from it."""

from dataclasses import replace

import pytest

from arena.analysis.episode_data import gather
from arena.analysis.timeline import steps_of
from arena.log.metric import UNTRAINED
from arena.log.rows import CheckpointRow
from arena.report.tables import episode_details
from arena.report.view.charts import charts_of

CURVE = ((250, 0.058), (500, 0.058), (1000, 0.9))


@pytest.fixture
def points():
    measured = [
        CheckpointRow(
            index=index,
            queries_used=asked,
            wall_seconds=1.0,
            clone_accuracy=score,
            clone_fidelity=score,
            metrics={} if index == 2 else {UNTRAINED: 1.0},
        )
        for index, (asked, score) in enumerate(CURVE)
    ]
    return tuple(measured)


def test_the_chart_of_an_episode_has_a_point_and_no_slope(made_up, points):
    row = made_up.log.episode(made_up.play(clone=0.9))
    clone = charts_of(row, [], points, [])[0]
    curves = [line for line in clone.lines if line.dots]
    assert [len(line.dots) for line in curves] == [1, 1]
    trained = [replace(point, metrics={}, clone_accuracy=0.3 + 0.1 * n) for n, point in
               enumerate(points)]  # fmt: skip
    assert len(charts_of(row, [], trained, [])[0].lines[0].dots) == 3


def test_a_timeline_knows_no_accuracy_before_training(made_up, points):
    id = made_up.play(clone=0.9)
    steps = steps_of(made_up.log.episode(id), made_up.log.rounds(id), points, [])
    assert [step.clone_accuracy for step in steps][-1] == 0.9
    early = [step.clone_accuracy for step in steps if step.used < 1000][:-1]
    assert set(early) <= {None}


def test_the_report_says_so_at_each_checkpoint(made_up, points):
    id = made_up.play(clone=0.9)
    data = gather(made_up.log, [id])
    data = replace(data, checkpoints={id: points})
    told = episode_details(data, data.episodes[0]).checkpoints
    assert told == [
        ("250", "not yet trained", ""),
        ("500", "not yet trained", ""),
        ("1,000", "90.0%", "90.0%"),
    ]
