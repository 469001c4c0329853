"""Exits, service and alarms along the budget, and what detectors noticed."""

import dataclasses

import numpy as np
import pytest

from arena.analysis.alarms import alarms_of, detections_of
from arena.analysis.along_budget import Slice, changes, early_share, right_share, slices_of
from arena.analysis.episode_data import gather
from arena.log.rows import RoundRow
from arena.report.alarms import alarm_lines
from arena.report.plots.over_time import changes_of, draw_over_time

CLIENTS = {"traffic": {"benign": 0.5, "clients": 4}}


def bucket(queries, attack, benign=((0, 0),), answered=0, right=0):
    return RoundRow(
        bucket=queries, first_round=queries, rounds=1, attack_answered=0, queries_used=queries,
        benign_answered=answered, attack_exits=attack, benign_exits=benign, benign_correct=right,
    )  # fmt: skip


def alarm(client, *, attacker):
    return ("alarm", "raised", {"data": {"client": client, "attacker": attacker}})


def data_of(made_up, slices=None):
    rows = made_up.log.episodes()
    data = gather(made_up.log, [row.id for row in reversed(rows)])
    if slices:
        data = dataclasses.replace(data, slices={row.id: slices for row in rows})
    return data


def test_rounds_are_summed_by_the_twentieth_of_the_budget_in_which_they_ended():
    rounds = [
        bucket(10, ((1, 2), (0, 0)), answered=4, right=3),
        bucket(50, ((0, 1), (5, 0)), answered=2, right=1),
        bucket(51, ((7, 0), (0, 0))),
        bucket(1000, ((0, 9), (0, 0))),
    ]
    found = slices_of(1000, rounds)
    assert sorted(found) == [0, 1, 19]
    assert found[0] == Slice(((1, 3), (5, 0)), ((0, 0),), 6, 4)


def test_what_leaves_early_leaves_before_the_last_exit_of_its_own_network():
    assert early_share(((6, 3, 1), (4,))) == 9 / 14
    assert early_share(((0, 0),)) is None


def test_right_answers_are_told_of_images_that_have_one(made_up):
    made_up.play(plan={"traffic": {"benign": 0.5, "ood_share": 0.2}})
    made_up.play(seed=1)
    odd, plain = data_of(made_up).episodes
    part = Slice((), (), 100, 60)
    assert right_share(part, odd) == pytest.approx(0.75)
    assert right_share(part, plain) == pytest.approx(0.6)
    assert right_share(Slice((), (), 0, 0), plain) is None


def test_chance_is_no_change_and_a_step_is_one():
    generator = np.random.default_rng(0)
    noisy = [(generator.binomial(100, 0.9, 20) / 100).tolist() for _ in range(100)]
    assert sum(changes(values, 100) for values in noisy) <= 5
    assert changes([0.0] * 10 + [1.0] * 10, 100)
    assert not changes([], 100)


STEP = {
    0: Slice(((0, 50),), ((0, 50),), 50, 45),
    10: Slice(((40, 10),), ((0, 50),), 50, 45),
    19: Slice(((50, 0),), ((0, 50),), 50, 45),
}


def test_a_defender_that_changes_is_drawn_by_its_shares(made_up):
    for seed in range(2):
        made_up.play(seed=seed)
    data = data_of(made_up, STEP)
    (change,) = changes_of(data)
    assert change.exits["dfme"].means == [0.0, 0.8, 1.0]
    assert change.exits["benign users"].means == [0.0, 0.0, 0.0]
    assert change.service.means == pytest.approx([0.9] * 3)
    left, right = draw_over_time(data).figure.axes
    lines = {line.get_label(): line.get_ydata() for line in left.get_lines()}
    assert list(lines["dfme"]) == [0.0, 0.8, 1.0]
    assert list(right.get_lines()[0].get_ydata()) == pytest.approx([0.9] * 3)


def test_without_benign_users_each_attacker_is_judged_by_its_own_queries(made_up):
    # twenty queries of each in each slice cannot show a change of 60 points
    for attacker in ("dfme", "knockoff"):
        made_up.play(attacker)
    steps = {place: Slice(((12 * (place < 10), 20 - 12 * (place < 10)),), (), 0, 0)
             for place in range(20)}  # fmt: skip
    assert changes_of(data_of(made_up, steps)) == []


def test_what_stays_as_it_is_is_not_drawn(made_up):
    made_up.play()
    assert draw_over_time(data_of(made_up)) is None


def test_alarms_alone_are_drawn_where_they_were_raised(made_up):
    made_up.play(events=[alarm(7, attacker=True), alarm(2, attacker=False)])
    (change,) = changes_of(data_of(made_up))
    assert change.alarms == ((0.01,), (0.01,))


def test_a_detection_counts_seeds_without_an_alarm_and_clients_once(made_up):
    flagged = [alarm(7, attacker=True), *[alarm(2, attacker=False)] * 3]
    made_up.play(seed=0, defender="detector", plan=CLIENTS, events=flagged)
    made_up.play(seed=1, defender="detector", plan=CLIENTS)
    made_up.play(seed=0, plan=CLIENTS)
    data = data_of(made_up)
    (found,) = detections_of(data.board, data.events)
    assert found.row.versus == "detector"
    assert found.first.by == (10, None)
    # one of four clients in each of two episodes: Wilson's interval from the formula
    assert (found.flagged.n, found.flagged.mean) == (8, 0.125)
    assert (found.flagged.low, found.flagged.high) == pytest.approx((0.0224, 0.4709), abs=1e-4)
    (line,) = alarm_lines([found])
    assert line.first == ("10", "10 to > 1,000", "in 1 of 2 seeds")
    assert (line.flagged.mean, line.flagged.note) == ("12.5%", "1 of 8 clients")


def test_without_benign_clients_nobody_is_falsely_flagged(made_up):
    made_up.play(events=[alarm(7, attacker=True)])
    data = data_of(made_up)
    (found,) = detections_of(data.board, data.events)
    assert found.flagged is None
    assert alarm_lines([found])[0].flagged.mean == ""


def test_an_alarm_of_a_plug_in_that_tells_nothing_is_one_of_nobody(made_up):
    made_up.play(
        events=[("alarm", "odd", {"data": {"client": "x", "attacker": 1}}), ("note", "", {})]
    )
    (events,) = data_of(made_up).events.values()
    assert [(one.client, one.attacker) for one in alarms_of(events)] == [(None, None)]
