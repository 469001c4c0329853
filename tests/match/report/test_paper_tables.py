"""What was measured of the paper's tables stands in its own cell, beside what was published."""

import tomllib
from pathlib import Path

import pytest

from arena.analysis.episode_data import gather
from arena.report import html as page
from arena.report.html import write_report
from arena.report.paper import beside_published, published_tables

SCENARIOS = Path(__file__).parents[3] / "scenarios" / "paper"
TEXT = 'name = "{name}"\ntags = ["suite", "{tag}"]\n'
SOFT = {"threat": {"budget": 1000, "labels": "soft"}}
HARD = {"threat": {"budget": 1000, "labels": "hard"}}


def played(made_up, defender, *, tag, named, scores=(0.5,), name="row", plan=SOFT):
    for seed, clone in enumerate(scores):
        made_up.play("dfme", defender, seed, clone=clone, scenario=name, plan=plan,
                     text=TEXT.format(name=name, tag=tag), named=named)  # fmt: skip


def tables_of(made_up):
    ids = [row.id for row in reversed(made_up.log.episodes())]
    return beside_published(gather(made_up.log, ids))


def cell(table, defender, column):
    (row,) = [row for row in table.rows if row.defender == defender]
    return row.cells[table.headings.index(column)]


def test_all_tables_are_whole_and_their_defenders_are_the_paper_s():
    tables = published_tables()
    assert [table.tag[-2:] for table in tables] == ["1a", "1b", "2a", "2b"]
    for table in tables:
        assert list(table.cells) == ["undefended", "randp", "p-poison", "grad", "meco", "dnf"]
        assert {len(cells) for cells in table.cells.values()} == {len(table.columns)}


def test_the_published_cells_say_how_sure_their_place_is():
    counts = {
        table.tag: [
            sum(cell.standing == standing for cells in table.cells.values() for cell in cells)
            for standing in ("certain", "row inferred", "unpublished")
        ]
        for table in published_tables()
    }
    assert counts == {
        "paper:table1a": [12, 11, 13],
        "paper:table1b": [0, 9, 27],
        "paper:table2a": [42, 0, 0],
        "paper:table2b": [42, 0, 0],
    }


def test_a_measured_cell_has_its_interval_and_seeds_and_the_published_one(made_up):
    played(made_up, "dnf", tag="paper:table1a", scores=(0.40, 0.44),
           named={"data": "cifar10", "clone": "densenet121"})  # fmt: skip
    (table,) = tables_of(made_up)
    found = cell(table, "dnf", "C10 DenseNet121")
    # t(0.975, 1) = 12.706; the deviation of 0.40 and 0.44 is 0.02 sqrt(2): 0.254. Of a hundred
    # images 1.96 * sqrt(44 * 62 / 104**3) = 0.095; together 0.271
    assert found == ("42.00", "14.9 to 69.1, 2 seeds", "47.21 ± 2.15", "certain")
    assert cell(table, "meco", "C10 DenseNet121").measured == ""
    assert cell(table, "meco", "C10 ResNet18-8x")[2:] == ("51.68 ± 1.96", "row inferred")
    assert cell(table, "dnf", "C10 MobileNetV2")[2:] == ("unpublished", "unpublished")
    assert "1 of 36 cells were played here, with 1,000 queries against resnet10." in table.remark


def test_scenarios_of_one_table_fill_it_together(made_up):
    for name, clone in (("one", "resnet50"), ("two", "vgg19_bn")):
        played(made_up, "randp", tag="paper:table2a", name=name,
               named={"data": "cub200-2011", "clone": clone})  # fmt: skip
    (table,) = tables_of(made_up)
    assert cell(table, "randp", "CUB ResNet50").measured == "50.00"
    assert cell(table, "randp", "CUB VGG19").measured == "50.00"
    assert cell(table, "randp", "CUB ResNet34").measured == ""


@pytest.mark.parametrize(
    ("data", "clone", "heading"),
    [
        ("tiny-imagenet", "vit_large_patch16_384", "IN200 ViT-L"),
        ("imagenet200", "cait_s36_384", "IN200 CaiT"),
        ("imagenet200", "deit_base_distilled_patch16_384", "IN200 DeiT"),
        ("imagenet200", "swin-large", "IN200 Swin-L"),
    ],
)
def test_networks_and_data_are_known_by_their_full_names(made_up, data, clone, heading):
    played(made_up, "dnf", tag="paper:table2b", named={"data": data, "clone": clone}, plan=HARD)
    (table,) = tables_of(made_up)
    assert cell(table, "dnf", heading).measured == "50.00"


def test_a_scenario_that_was_scaled_down_is_in_the_column_it_names(made_up):
    text = 'name = "row"\ntags = ["paper:table1a", "column:C100 MobileNetV2"]\n'
    made_up.play("dfme", "meco", scenario="row", text=text, plan=SOFT,
                 named={"data": "digits", "clone": "mlp-small"})  # fmt: skip
    (table,) = tables_of(made_up)
    found = cell(table, "meco", "C100 MobileNetV2")
    assert (found.measured, found.note) == ("50.00", "1 seed, data digits, clone mlp-small")
    assert found.published == "12.18 ± 1.05"


@pytest.mark.skipif(not SCENARIOS.is_dir(), reason="this checkout has no scenarios/paper")
def test_every_scenario_that_ships_for_a_table_names_a_column_of_it():
    columns = {table.tag: {c.heading for c in table.columns} for table in published_tables()}
    files = sorted(SCENARIOS.glob("*.toml"))
    for file in files:
        tags = tomllib.loads(file.read_text("utf-8"))["tags"]
        (table,) = [tag for tag in tags if tag in columns]
        (column,) = [tag.removeprefix("column:") for tag in tags if tag.startswith("column:")]
        assert column in columns[table], file.name
    assert len(files) == sum(map(len, columns.values()))


def test_soft_answers_are_in_no_cell_of_a_hard_table(made_up):
    named = {"data": "cifar10", "clone": "resnet18-8x"}
    played(made_up, "dnf", tag="paper:table1b", named=named, plan=SOFT)
    (table,) = tables_of(made_up)
    assert cell(table, "dnf", "C10 ResNet18-8x").measured == ""


def test_of_several_settings_the_strongest_clone_counts_and_it_says_so(made_up):
    named = {"data": "cifar10", "clone": "resnet18-8x"}
    for budget, clone in ((1000, 0.3), (2000, 0.6)):
        played(made_up, "grad", tag="paper:table1a", named=named, scores=(clone,),
               plan={"threat": {"budget": budget, "labels": "soft"}})  # fmt: skip
    (table,) = tables_of(made_up)
    assert cell(table, "grad", "C10 ResNet18-8x").note == "1 seed, best of 2 settings"


def test_another_attack_than_the_table_s_is_named(made_up):
    text = TEXT.format(name="row", tag="paper:table1a")
    named = {"data": "cifar10", "clone": "mobilenetv2"}
    made_up.play("noise", "meco", scenario="row", plan=SOFT, text=text, named=named)
    (table,) = tables_of(made_up)
    assert cell(table, "meco", "C10 MobileNetV2").note == "1 seed, by noise"


def test_other_scenarios_have_no_such_table(made_up):
    made_up.play(text='tags = ["paper:nothing"]')
    made_up.play("b", text="this is no TOML [")
    made_up.play("c", text="tags = 3")
    assert tables_of(made_up) == []


def test_the_report_marks_inferred_and_unpublished_cells(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "FIGURES", {})
    played(made_up, "meco", tag="paper:table1a",
           named={"data": "cifar10", "clone": "resnet18-8x"})  # fmt: skip
    ids = [row.id for row in made_up.log.episodes()]
    text = write_report(made_up.log, ids, tmp_path / "r.html").read_text("utf-8")
    assert 'href="#paper-table1a"' in text
    assert "paper: 51.68 ± 1.96 *</span>" in text
    assert "paper: unpublished</span>" in text
    assert "not played" in text
