"""The tables of docs/photographs.md by hand, and beside the rows that they were made from."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import detection_plot, photograph_table
from benchmarks.ood_detection import Row

ROOT = Path(__file__).parents[3]


def episode(attacker, defender, seed, clone, served=0.9):
    return SimpleNamespace(
        attacker=attacker, defender=defender, seed=seed, clone_accuracy=clone,
        served_accuracy=served, served_agreement=1.0, attack_compute_share=1.2,
    )  # fmt: skip


ROWS = [
    episode("knockoff", "undefended", 0, 0.5), episode("knockoff", "undefended", 1, 0.6),
    episode("e3", "undefended", 0, 0.6), episode("e3", "undefended", 1, 0.7),
    episode("knockoff", "dnf", 0, 0.4, 0.88), episode("knockoff", "dnf", 1, 0.65, 0.88),
]  # fmt: skip


def test_the_worst_case_is_the_best_clone_of_each_seed():
    text = photograph_table.matrix(ROWS, {"undefended": "none", "dnf": "uniform"})
    assert "| worst case by seed | 60.0, 70.0 | 40.0, 65.0 |" in text
    assert "| trained on | none | uniform |" in text
    assert "| `e3` | 65.0 [1.5, 100.0] | - |" in text
    # compute may pass 100 %
    assert "| compute per query of the pool % | 120.0 [120.0, 120.0] |" in text


def test_differences_are_taken_seed_by_seed_over_the_same_attackers():
    text = photograph_table.differences(ROWS)
    assert "| `e3` less `knockoff`, undefended | 10.0 [10.0, 10.0] |  |" in text
    # 0.5 - 0.4 and 0.6 - 0.65: e3 did not play against dnf, so that it does not count
    assert "| worst case, undefended less `dnf` | 2.5 [-92.8, 97.8] | 2.0 [2.0, 2.0] |" in text


def test_what_a_defence_takes_from_an_attacker_is_told_seed_by_seed():
    text = photograph_table.taken(ROWS)
    assert "| `knockoff` | 2.5 [-92.8, 97.8] |" in text
    assert "| `e3` | - |" in text


def test_what_is_taken_stands_over_what_is_detected():
    rows = [
        Row("photographs", seed, "dnf", "uniform", source, auroc_exit=0.7, auroc_first=0.6,
            auroc_all=0.6, caught=0.1, early=0.2, early_own=0.0, served_accuracy=0.9,
            victim_accuracy=0.9)
        for seed in (0, 1) for source in ("tiny-imagenet", "uniform")
    ]  # fmt: skip
    clones = [
        {"defender": defender, "attacker": "knockoff", "seed": seed, "clone_accuracy": clone}
        for defender, seed, clone in (
            ("undefended", "0", "0.6"), ("undefended", "1", "0.7"), ("dnf", "0", "0.5"),
            ("dnf", "1", "0.6"), ("dnf_plus", "0", "0.1"),
        )
    ]  # fmt: skip
    (found,) = detection_plot.points(rows, {"photographs": clones})
    assert (found.auroc.mean, found.early.mean) == pytest.approx((0.7, 0.2))
    assert found.taken.mean == pytest.approx(0.1)  # less is left, so that more is taken
    assert detection_plot.draw([found]).alt.endswith("20% leave early, 10.0 points taken.")


def test_the_page_shows_the_rows_that_lie_beside_it():
    page = (ROOT / "docs" / "photographs.md").read_text(encoding="utf-8")
    with (photograph_table.RESULTS / "photographs.csv").open(encoding="utf-8", newline="") as file:
        rows = [_read(row) for row in csv.DictReader(file)]
    sources = {row.defender: row.trained_on for row in rows}
    assert photograph_table.matrix(rows, sources) in page
    assert photograph_table.differences(rows) in page


def _read(row):
    macs = [float(row[key]) for key in ("attack_macs_mean", "full_macs")]
    return SimpleNamespace(
        attacker=row["attacker"], defender=row["defender"], seed=int(row["seed"]),
        trained_on=row["trained_on"], attack_compute_share=macs[0] / macs[1],
        **{key: float(row[key])
           for key in ("clone_accuracy", "served_accuracy", "served_agreement")},
    )  # fmt: skip
