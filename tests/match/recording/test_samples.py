"""Samples of queries are kept as arrays, and drawn where they are looked at."""

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from arena.cli.app import app
from arena.cli.thumbnails import drawn, latest
from arena.log import artifacts
from arena.log.store import Log
from arena.recording.samples import SHOWN, asked_in, picture, sample_path
from arena.recording.shards import rounds_on_tape
from arena.runner.match import play
from arena.scenario import Scenario

TINY = {
    "version": 1,
    "name": "sampled",
    "data": "digits",
    "seeds": [0],
    "checkpoints": 4,
    "record": "queries",
    "victim": {"use": "conv-small", "recipe": {"epochs": 1}},
    "clone": {"use": "mlp-small"},
    "threat": {"budget": 300},
    "attackers": [{"use": "noise"}],
    "defenders": [{"defence": "undefended"}],
}


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A log with one episode that kept all its queries; the log and the episode's row."""
    with Log.open(tmp_path_factory.mktemp("sampled") / "arena.db") as log:
        (row,) = play(Scenario.parse(TINY), log=log).episodes
        assert row.status == "success", row.error
        yield log, row


def test_each_checkpoint_has_a_sample_of_the_round_before_it(sampled):
    log, row = sampled
    rounds = list(rounds_on_tape(log, row.id))
    ends = np.cumsum([len(one.images) for one in rounds])
    samples = asked_in(log, row.id)
    marks = [point.queries_used for point in log.checkpoints(row.id)]
    assert [asked.queries_used for asked in samples] == marks
    for asked in samples:
        images = rounds[int(np.searchsorted(ends, asked.queries_used))].images[:SHOWN]
        assert np.array_equal(asked.images, (images * 255).round().to(torch.uint8).numpy())


def test_the_file_is_an_archive_that_numpy_reads(sampled):
    log, row = sampled
    path = sample_path(log, row.id)
    assert path.name == "sample.npz"
    (artifact,) = [one for one in log.artifacts(row.id) if one.kind == "sample-queries"]
    assert artifacts.digest(path) == artifact.sha256
    with np.load(path, allow_pickle=False) as arrays:
        assert (arrays["images"].shape, arrays["images"].dtype) == ((4 * SHOWN, 1, 8, 8), np.uint8)
        assert arrays["counts"].tolist() == [SHOWN] * 4
        assert arrays["queries_used"][-1] == 300


@pytest.mark.parametrize("grey", [0.0, 127.5 / 255, 128 / 255, 1.0])
def test_an_image_of_one_grey_is_kept(made_up, grey):
    """The timing probe asks such images; the grey of a ground must not swallow them."""
    one = torch.full((3, 1, 8, 8), grey)
    (asked,) = asked_in(made_up.log, made_up.play(asked=[(7, one)]))
    assert asked.images.shape == (3, 1, 8, 8)
    assert set(asked.images.ravel().tolist()) == {round(grey * 255)}


@pytest.mark.parametrize(
    "arrays",
    [
        {"images": np.zeros((2, 1, 8, 8))},
        {"images": np.zeros((2, 8), dtype=np.uint8)},
        {"queries_used": np.array([1, 2])},
        {"counts": np.array(["x"])},
        {"images": np.array([None])},
    ],
)
def test_an_archive_of_another_content_is_as_good_as_none(made_up, arrays):
    """A log may come from elsewhere, with digests that fit."""
    id = made_up.play(asked=[(7, torch.zeros(2, 1, 8, 8))])
    path = sample_path(made_up.log, id)
    right = {"images": np.zeros((2, 1, 8, 8), dtype=np.uint8), "counts": np.array([2]),
             "queries_used": np.array([7])}  # fmt: skip
    for content, found in ((right, 1), (right | arrays, 0)):
        np.savez(path, **content)
        with made_up.log.engine.begin() as connection:
            statement = f"UPDATE artifact SET sha256 = '{artifacts.digest(path)}'"
            connection.exec_driver_sql(statement)
        assert len(asked_in(made_up.log, id)) == found


def test_a_picture_shows_the_pixels_where_they_belong():
    images = np.zeros((2, 1, 8, 8), dtype=np.uint8)
    images[1, 0, 0, 0] = 200
    drawing = picture([images, images[:1]], columns=3, side=8, gap=1, ground=255)
    assert drawing.shape == (2 * 9, 3 * 9)
    assert (drawing[0, 0], drawing[0, 8], drawing[0, 9], drawing[0, 10]) == (0, 255, 200, 0)
    assert (drawing[:, 18:] == 255).all()  # no third image
    assert (drawing[9:, 9:] == 255).all()  # no second one in the second row
    colours = np.zeros((1, 3, 8, 8), dtype=np.uint8)
    colours[0, 2] = 255
    assert picture([colours], columns=1, side=8, gap=0, ground=0)[3, 3].tolist() == [0, 0, 255]


def test_a_large_image_is_shrunk_by_the_mean_over_areas():
    image = np.tile(np.array([[0, 100]], dtype=np.uint8), (16, 8))[None, None]
    shown = picture([image], columns=1, side=8, gap=0, ground=0)
    assert shown.shape == (8, 8)
    assert (shown == 50).all()


def test_a_terminal_draws_the_latest_sample_two_pixels_in_a_character(sampled):
    log, row = sampled
    samples = asked_in(log, row.id)
    marks = [asked.queries_used for asked in samples]
    assert latest(samples, marks[0] - 1) is None
    assert latest(samples, marks[1]) is latest(samples, marks[2] - 1) is samples[1]
    text = drawn(samples[1])
    assert [line.cell_len for line in text.split()] == [8 + 9 * 8] * 4
    upper, lower = samples[1].images[0, 0, :2, 0]
    assert str(text.spans[0].style) == "#" + f"{upper:02x}" * 3 + " on #" + f"{lower:02x}" * 3


def test_a_terminal_draws_images_of_an_odd_height_whole(made_up):
    (asked,) = asked_in(made_up.log, made_up.play(asked=[(7, torch.ones(1, 3, 5, 5))]))
    lines = drawn(asked).split()
    assert len(lines) == 3
    assert str(drawn(asked).spans[-1].style) == "#000000 on #000000"  # places without an image


def test_a_replay_says_where_the_samples_are_and_does_without_those_that_are_gone(sampled):
    log, row = sampled
    path = sample_path(log, row.id)
    words = ["replay", row.id, "--log", log.where]
    told = CliRunner().invoke(app, words).stdout
    assert told.endswith(f"queries at each checkpoint, as NumPy arrays: {path}\n")
    content = path.read_bytes()
    try:
        for broken in (content[:200], b"no archive"):
            path.write_bytes(broken)
            assert asked_in(log, row.id) == ()
        path.unlink()
        told = CliRunner().invoke(app, words).stdout
        assert told.endswith("sample.npz (missing)\n")
    finally:
        path.write_bytes(content)
