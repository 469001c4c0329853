"""The tables of docs/dnf.md can be made again, and are those of the rows beside them."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest

from arena.log.store import Log
from benchmarks import dnf_table
from envs.errors import ArenaError

ROOT = Path(__file__).parents[3]


def episode(attacker, defender, seed, clone):
    return SimpleNamespace(
        scenario_name="dnf_plus", attacker=attacker, defender=defender, seed=seed,
        clone_accuracy=clone, served_accuracy=0.9, served_agreement=1.0, distortion_mean=0.5,
        attack_compute_share=0.2, benign_compute_share=1.0,
    )  # fmt: skip


def test_the_worst_case_is_the_best_clone_of_each_seed():
    rows = [episode("a", "d", 0, 0.3), episode("b", "d", 0, 0.5), episode("a", "d", 1, 0.4),
            episode("b", "d", 1, 0.2)]  # fmt: skip
    assert dnf_table.worst_case(rows) == {0: 0.5, 1: 0.4}


def test_intervals_end_where_the_figure_cannot_lie():
    # Student's t for two values: 12.706 times half their distance to either side
    rows = [episode("dfme", "d", seed, clone) for seed, clone in enumerate((0.1, 0.3))]
    rows += [episode("noise", "d", seed, clone) for seed, clone in enumerate((0.20, 0.22))]
    (line,) = dnf_table.digits(rows, {"d": "uniform, smooth"}).splitlines()[2:]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1] == "uniform, smooth"
    assert cells[2:4] == ["20.0 [0.0, 100.0]", "21.0 [8.3, 33.7]"]
    assert cells[-1] == "10.0, 30.0"


def test_differences_are_taken_seed_by_seed_and_only_where_both_were_played():
    rows = [episode("knockoff", "intended", seed, 0.8) for seed in (0, 1, 2)]
    rows += [episode("knockoff", "dnf_plus", seed, 0.5) for seed in (0, 2)]
    rows += [episode("knockoff", "undefended", 0, 0.9)]
    text = dnf_table.differences(rows)
    assert "| undefended less dnf_plus | 40.0 | 0.0 |" in text
    assert "| intended less dnf_plus | 30.0 [30.0, 30.0] | 0.0 [0.0, 0.0] |" in text


def test_a_log_without_the_scenario_is_refused_and_nothing_is_written(tmp_path, monkeypatch):
    path = tmp_path / "other.db"
    with Log.open(path):
        pass
    before = (ROOT / "docs" / "dnf.md").read_bytes()
    monkeypatch.setattr("sys.argv", ["dnf_table", "--digits", str(path), "--write"])
    with pytest.raises(ArenaError, match="no episode of dnf_digits"):
        dnf_table.main()
    assert (ROOT / "docs" / "dnf.md").read_bytes() == before


def test_attackers_that_know_the_source_are_held_against_knockoff_seed_by_seed():
    rows = [episode("knockoff", "dnf_plus", seed, clone) for seed, clone in enumerate((0.5, 0.7))]
    rows += [episode("finder", "dnf_plus", seed, clone) for seed, clone in enumerate((0.6, 0.8))]
    control, finder = dnf_table.adaptive(rows).splitlines()[2:]
    assert control.endswith("|  | 50.0, 70.0 |")
    assert finder.endswith("| 10.0 [10.0, 10.0] | 60.0, 80.0 |")


def test_the_best_clone_of_each_seed_is_told_with_and_without_the_source():
    rows = [episode("knockoff", "undefended", seed, 0.9) for seed in (0, 1)]
    rows += [episode("knockoff", "dnf_plus", seed, clone) for seed, clone in enumerate((0.5, 0.7))]
    rows += [episode("rule-finder", "dnf_plus", seed, 0.6) for seed in (0, 1)]
    without, with_it, more = dnf_table.source_worth(rows).splitlines()[2:]
    assert without.startswith("| without the source | 90.0 [90.0, 90.0] | 60.0 [")
    assert without.split("|")[4].strip().startswith("30.0 [")
    assert with_it.split("|")[3].strip().startswith("65.0 [")  # 60 and 70
    assert with_it.split("|")[4].strip().startswith("25.0 [")
    assert more.split("|")[3].strip().startswith("5.0 [")


@pytest.mark.parametrize(
    ("mark", "name"),
    [("digits", "dnf_digits"), ("plus", "dnf_plus"), ("adaptive", "dnf_plus_adaptive")],
)
def test_the_page_shows_the_rows_that_lie_beside_it(mark, name):
    page = (ROOT / "docs" / "dnf.md").read_text(encoding="utf-8")
    shown = page.split(f"<!-- {mark}: begin -->")[1].split(f"<!-- {mark}: end -->")[0]
    path = ROOT / "benchmarks" / "results" / f"{name}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = [_read(row) for row in csv.DictReader(file)]
    sources = {row.defender: row.trained_on for row in rows}
    if mark == "digits":
        assert dnf_table.digits(rows, sources) in shown
    elif mark == "adaptive":
        assert f"{dnf_table.adaptive(rows)}\n\n{dnf_table.source_worth(rows)}" in shown
    else:
        tables = (dnf_table.plus(rows, sources), dnf_table.differences(rows))
        assert "\n\n".join(tables) in shown


def _read(row):
    figures = {key: float(value) for key, value in row.items() if _is_number(value)}
    read = SimpleNamespace(**(row | figures | {"seed": int(row["seed"])}))
    read.attack_compute_share = read.attack_macs_mean / read.full_macs
    read.benign_compute_share = read.benign_macs_mean / read.full_macs
    return read


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
