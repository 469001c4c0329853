"""What attackers asked and what they read from the clock reaches the log and is drawn as it is."""

import math

import numpy as np
import pytest
import torch

from agents.timing_probe.log_record import BINS
from agents.timing_probe.log_record import LATENCIES as WRITTEN
from arena.analysis.episode_data import gather
from arena.log.artifacts import locate
from arena.log.store import Log
from arena.recording.samples import asked_in
from arena.report.plots import query_samples as sheets
from arena.report.plots.latencies import LATENCIES, draw_latencies, timed_meetings, verdict
from arena.report.plots.query_samples import asked_sheets, draw_asked
from arena.report.plots.style import inline_svg
from arena.runner.match import play
from arena.scenario import load

PROBE = {
    "threat": {"budget": 300, "latency": "virtual"},
    "traffic": {"benign": 0},
    "attackers": [{"use": "exit-timing"}],
}


def episode_data_of(made_up):
    return gather(made_up.log, [row.id for row in reversed(made_up.log.episodes())])


def clock(exits=(1.2e-3, 5e-3), **changed):
    counts = [0] * 10
    counts[2], counts[7] = 30, 10
    note = {"edges": np.geomspace(1e-3, 1e-2, 11).tolist(), "counts": counts,
            "exits": [{"seconds": at, "share": 0.5} for at in exits],
            "images": 40, "repeats": 3, "certainty": 0.9}  # fmt: skip
    return [("latencies", "told exits apart", {"data": {**note, **changed}})]


def images(value, size=8, count=16, channels=1):
    return torch.full((count, channels, size, size), value)


def test_the_name_of_the_note_is_the_writer_s():
    assert LATENCIES == WRITTEN


def test_a_probe_s_clock_and_queries_are_in_the_log_and_drawn(tmp_path, tiny_file):
    path = tiny_file(**PROBE)
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(load(str(path)), log=log).episodes
        (event,) = [event for event in log.events(row.id) if event.kind == LATENCIES]
        episode_data = gather(log, [row.id])
    assert row.status == "success", row.error
    note = event.data["data"]
    assert sum(note["counts"]) == note["images"] > 0
    assert len(note["counts"]) == len(note["edges"]) - 1 == BINS
    assert note["edges"] == sorted(note["edges"])
    assert event.message.startswith("told one exit apart")
    (timed,) = timed_meetings(episode_data)
    assert verdict(timed) == "probe: 1 exit (1 seed); queries left at 1 of 1"
    (sheet,) = asked_sheets(episode_data)
    assert [len(asked.images) for asked in sheet.sample][-1] > 0
    assert draw_latencies(episode_data) is not None
    assert draw_asked(episode_data) is not None


def test_the_histogram_has_the_shares_and_the_probe_s_exits(made_up):
    made_up.play(events=clock(), inferences=[{"attribute": "exits", "inferred": 2, "truth": 5}])
    made_up.play(seed=1, events=clock(exits=(2e-3,)))
    episode_data = episode_data_of(made_up)
    (timed,) = timed_meetings(episode_data)
    assert timed.found == (2, 1)
    assert verdict(timed) == "probe: 1 or 2 exits (2 seeds); the network has 5"
    assert verdict(timed._replace(visited=(2,))).endswith("; queries left at 2 of 5")
    assert verdict(timed._replace(visited=(5,))).endswith("; queries left at 5 of 5")
    (ax,) = draw_latencies(episode_data).figure.axes
    (steps,) = ax.patches
    values = steps.get_data().values
    assert (values[2], values[7], values.sum()) == (0.75, 0.25, 1.0)
    assert [line.get_xdata()[0] for line in ax.get_lines()] == [1.2e-3, 5e-3]


@pytest.mark.parametrize(
    "garbled",
    [
        {"edges": [1, 2]},
        {"counts": "x"},
        {"counts": [0] * 10},
        {"repeats": "x"},
        {"certainty": None},
    ],
)
def test_a_garbled_note_is_as_good_as_none(made_up, garbled):
    made_up.play(events=clock(**garbled))
    assert draw_latencies(episode_data_of(made_up)) is None


def test_a_note_of_another_shape_is_as_good_as_none(made_up):
    made_up.play(events=[("latencies", "mine", {"data": 7})])
    assert draw_latencies(episode_data_of(made_up)) is None


def test_a_sample_comes_back_as_it_was_asked(made_up):
    id = made_up.play(asked=[(100, images(0.0)), (250, images(1.0, count=3))])
    first, second = asked_in(made_up.log, id)
    assert (first.queries_used, second.queries_used) == (100, 250)
    assert (len(first.images), len(second.images)) == (16, 3)
    assert (first.images.max(), second.images.min()) == (0, 255)


def test_a_sample_that_is_lost_or_altered_is_not_shown(made_up):
    id = made_up.play(asked=[(100, images(0.0))])
    (row,) = made_up.log.artifacts(id)
    path = locate(made_up.log.where, id, row.path)
    path.write_bytes(path.read_bytes() + b"x")
    assert asked_in(made_up.log, id) == ()
    path.unlink()
    assert asked_in(made_up.log, id) == ()
    assert draw_asked(episode_data_of(made_up)) is None


def test_the_same_queries_against_several_defenders_are_drawn_once(made_up):
    same = [(10, images(0.25)), (20, images(0.75))]
    for defender in ("a", "b", "c"):
        made_up.play("still", defender, asked=same)
    made_up.play("moved", "a", asked=same)
    made_up.play("moved", "b", asked=[(10, images(0.1)), (20, images(0.75))])
    found = [(sheet.attacker, sheet.against) for sheet in asked_sheets(episode_data_of(made_up))]
    assert found == [("still", "each of 3 defenders"), ("moved", "a"), ("moved", "b")]


def test_rows_are_spread_over_time_and_named_by_their_queries(made_up):
    made_up.play(asked=[(1000 * k, images(k / 10)) for k in range(1, 11)])
    (ax,) = draw_asked(episode_data_of(made_up)).figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["1k", "4k", "7k", "10k"]
    (picture,) = ax.get_images()
    rows = np.asarray(picture.get_array())
    assert rows[5, 5] == round(0.1 * 255)
    assert rows[-8, 5] == 255


def test_large_and_many_images_are_shrunk_to_what_a_page_has_room_for(made_up):
    for attacker in range(6):
        shade = attacker / 10
        made_up.play(str(attacker), asked=[(k, images(shade, 128, channels=3)) for k in range(4)])
    figure = draw_asked(episode_data_of(made_up)).figure
    total = sum(np.asarray(im.get_array()).nbytes for ax in figure.axes for im in ax.get_images())
    assert total < 1.3 * sheets.BYTES


def test_of_too_many_sheets_each_attacker_keeps_one_and_the_caption_says_so(made_up, monkeypatch):
    monkeypatch.setattr(sheets, "PANELS", 3)
    for attacker in "ab":
        for k, defender in enumerate("xyz"):
            made_up.play(attacker, defender, asked=[(1, images(k / 9))])
    drawing = draw_asked(episode_data_of(made_up))
    assert len(drawing.figure.axes) == 2
    assert "4 more are not drawn" in drawing.caption


def test_a_sheet_stands_in_the_page_without_loading_anything(made_up):
    made_up.play(asked=[(1, images(0.3))])
    svg = inline_svg(draw_asked(episode_data_of(made_up)), prefix="x")
    assert svg.count("data:image/png;base64,") == 1
    assert "http" not in svg


def test_an_exact_clock_has_a_histogram_too(made_up):
    from agents.timing_probe.architecture_guess import Evidence, exit_times_of
    from agents.timing_probe.log_record import histogram
    from agents.timing_probe.mixture import count_exits

    times = np.full(80, math.log(5e-3))
    count = count_exits(times)
    evidence = Evidence(count, exit_times_of(count, 80), [], None, (), 80)
    found = histogram(times, evidence, repeats=1)
    assert sum(found["counts"]) == 80
    assert found["edges"][0] < 5e-3 < found["edges"][-1]
