"""The reference of scenario files is up to date, whole, and its file can be played."""

import tomllib
from functools import cache
from pathlib import Path

from arena.scenario.reference import example, reference
from arena.scenario.scenario import Scenario
from arena.scenario.schema import ScenarioFile

ROOT = Path(__file__).resolve().parents[3]


@cache
def page():
    return reference()


def rows_of(section):
    """Read the table of a section: the cells behind each key."""
    text = page().split(f"## {section}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): [cell.strip() for cell in cells[1:]] for cells in lines}


def test_the_page_is_what_the_command_prints():
    written = (ROOT / "docs" / "scenario_reference.md").read_text(encoding="utf-8")
    assert written == page(), "run: arena scenarios reference > docs/scenario_reference.md"


def test_every_key_is_there_with_its_range_default_and_meaning():
    rows = rows_of("The file")
    assert set(rows) == {*ScenarioFile.model_fields, "extends"}
    assert all(cells[0] and cells[-1] for cells in rows.values())
    assert rows["version"][2] == rows["threat"][2] == "needed"
    assert rows["checkpoints"][:3] == ["whole number", "1 or more, 100,000 at most", "`10`"]
    threat = rows_of("`threat`")
    assert threat["budget"][:3] == ["whole number", "1 or more", "needed"]
    assert threat["latency"][1:3] == ['`"none"`, `"virtual"`, `"wall"`', '`"none"`']
    assert rows_of("`victim`")["use"][2] == rows_of("`attackers`")["use"][2] == "needed"
    assert rows_of("`traffic`")["benign"][1] == "0 or more, below 1"
    assert {"params", "sweep"} <= set(rows_of("`defenders`"))


def test_the_annotated_file_is_a_sound_scenario_that_comments_on_each_line():
    scenario = Scenario.parse(tomllib.loads(example()))
    scenario.check()
    assert scenario.size == 14
    assert example() in page()
    lines = [line for line in example().splitlines() if line and not line.startswith("#")]
    assert sum("#" in line for line in lines) > 0.7 * len(lines)
