"""The detection table: its measure by hand, its rows of a small fortress, its page and its file."""

import csv
from dataclasses import replace
from functools import partial

import pytest
import torch

from benchmarks import ood_detection
from benchmarks.exit_scores import auroc, caught, scores
from benchmarks.ood_detection import Row, World
from envs.defences.dnf import DNF
from envs.defences.dnf_plus import DNFPlus
from envs.nets.multi_exit import MultiExit
from envs.nets.registry import build
from envs.victim.victim import Victim


@pytest.mark.parametrize(
    ("own", "others", "expected"),
    [
        ([0.1, 0.2], [0.3, 0.4], 1.0),
        ([0.3, 0.4], [0.1, 0.2], 0.0),
        # pairs of an own and another: 3 of 4 have the other above
        ([1.0, 3.0], [2.0, 4.0], 0.75),
        # one tie counts a half: (0.5 + 1 + 0 + 1) / 4
        ([2.0, 3.0], [2.0, 4.0], 0.625),
        # exits: all tied says nothing
        ([0, 0, 0], [0, 0], 0.5),
        # own leave at -4, -4, -1; others at -1, -1, -4: 2 + 2 above, 1 + 2 ties of 9; one below
        ([-4, -4, -1], [-1, -1, -4], (4 + 0.5 * 4) / 9),
        ([1.0], [1.0, 2.0, 0.0, 3.0], (0.5 + 1 + 0 + 1) / 4),
    ],
)
def test_the_area_is_the_share_of_pairs_in_order_and_half_of_the_ties(own, others, expected):
    assert auroc(torch.tensor(own), torch.tensor(others)) == pytest.approx(expected)


def test_the_area_is_that_of_all_pairs_counted():
    chance = torch.Generator().manual_seed(0)
    own = torch.randint(5, (40,), generator=chance)
    others = torch.randint(1, 7, (30,), generator=chance)
    difference = others[:, None] - own[None]
    counted = ((difference > 0).double() + 0.5 * (difference == 0).double()).mean()
    assert auroc(own, others) == pytest.approx(float(counted))
    assert auroc(others, own) == pytest.approx(1 - float(counted))


def test_scores_of_one_side_alone_are_refused():
    with pytest.raises(ValueError, match="expected scores on both sides, got 0 and 2"):
        auroc(torch.zeros(0), torch.zeros(2))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.25, 0.5),  # 3 is the highest that one of four own images exceeds: 3.5 and 9 lie above
        (0.5, 0.75),  # from 2 on: 2.5 too
        (0.1, 0.25),  # none of four own may lie above, so that it is 4
    ],
)
def test_who_is_caught_lies_above_what_so_many_own_images_exceed(share, expected):
    own, others = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([0.0, 2.5, 3.5, 9.0])
    assert caught(own, others, share) == expected


def test_one_exit_is_strange_to_what_it_is_unsure_of():
    network = MultiExit(build("mlp-small", num_classes=10, image_shape=(1, 8, 8),
                              generator=torch.Generator().manual_seed(0)))  # fmt: skip
    images = torch.rand(30, 1, 8, 8)
    found = scores(Victim(network), images)
    sure = network(images).softmax(1).amax(1)
    assert torch.allclose(found.all, 1 - sure, atol=1e-5)
    assert torch.equal(found.all, found.first)


@pytest.fixture
def small(monkeypatch):
    """A world of seconds, whose fortresses hardly learn."""
    defences = {"dnf": partial(DNF, epochs=12), "dnf_plus": partial(DNFPlus, steps=100)}
    world = World("digits", "resnet10-half", defences, ("uniform", "tiny-imagenet"),
                  recipe={"epochs": 4})  # fmt: skip
    monkeypatch.setattr(ood_detection, "WORLDS", {"digits": world})
    monkeypatch.setattr(ood_detection, "COUNT", 250)
    monkeypatch.setenv("ARENA_DATA", "no such folder")


def test_noise_is_told_from_digits_and_what_is_not_there_is_left_out(small, capsys):
    rows = list(ood_detection.measure("digits", 0))
    assert [(row.defence, row.source) for row in rows] == [
        ("dnf", "uniform"), ("dnf_plus", "uniform")
    ]  # fmt: skip
    assert "without tiny-imagenet" in capsys.readouterr().out
    for row in rows:
        # noise leaves early and looks odd to the first exit; the other way round is near 0
        assert row.auroc_exit > 0.8
        assert row.auroc_first > 0.8
        assert row.auroc_all > 0.8
        assert row.caught > 0.8  # of noise, where 1 of 250 own images is
        assert row.early > 0.8
        assert row.early_own < 0.1  # a quarter of the own images takes the lane of "dnf_plus"
        assert "uniform" in row.trained_on


def row(**changes) -> Row:
    some = Row("digits", 0, "dnf", "uniform, smooth", "shapes", auroc_exit=0.5, auroc_first=0.75,
               auroc_all=0.875, caught=0.125, early=0.25, early_own=0.05,
               served_accuracy=0.97, victim_accuracy=0.98)  # fmt: skip
    return replace(some, **changes)


def test_a_table_has_means_with_intervals_and_areas_within_0_and_1():
    (line,) = ood_detection.page_table([row(), row(seed=1, auroc_exit=0.7)]).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:3] == ["dnf", "uniform, smooth", "shapes"]
    # Student's t for two values: 12.706 times half their distance, cut off at 0 and 1
    assert cells[3] == "0.600 [0.000, 1.000]"
    assert cells[6:8] == ["12.5 [12.5, 12.5]", "25.0 [25.0, 25.0]"]
    (alone,) = ood_detection.page_table([row()]).splitlines()[2:]
    assert "| 0.500 | 0.750 | 0.875 | 12.5 | 25.0 | 5.0 | 97.0 |" in alone


def test_what_is_measured_again_takes_the_place_of_what_was():
    old = [row(), row(defence="dnf_plus"), row(world="photographs")]
    new = [row(defence="plain"), row(auroc_exit=0.9)]
    assert ood_detection.together(old, new) == [new[0], new[1], old[1], old[2]]


def test_rows_survive_their_file(tmp_path, monkeypatch):
    monkeypatch.setattr(ood_detection, "CSV", tmp_path / "rows.csv")
    assert ood_detection.read_rows() == []
    rows = [row(), row(world="photographs", seed=3, auroc_exit=0.25)]
    ood_detection.write_rows(rows)
    assert ood_detection.read_rows() == rows


def test_the_page_shows_the_rows_that_lie_beside_it():
    with ood_detection.CSV.open(newline="", encoding="utf-8") as file:
        worlds = {line["world"] for line in csv.DictReader(file)}
    for world in worlds:
        mine = [row for row in ood_detection.read_rows() if row.world == world]
        text = ood_detection.PAGES[world].read_text(encoding="utf-8")
        begin, end = (f"<!-- detection-{world}: {mark} -->" for mark in ("begin", "end"))
        assert text.split(begin)[1].split(end)[0].strip() == ood_detection.page_table(mine)
