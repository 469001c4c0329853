"""The guide to attackers is executed: its example is checked and played as it stands there."""

import ast
import importlib.util
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.conformance import assert_conforms
from arena.registry import players

GUIDE = (Path(__file__).parents[3] / "docs" / "attackers.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    """Return the first code block of a language."""
    return GUIDE.split(f"```{language}\n")[1].split("```")[0]


@pytest.fixture
def example(tmp_path, monkeypatch):
    """The folder of somebody who copied both blocks of the guide."""
    (tmp_path / "slow_hunter.py").write_text(block("python"), encoding="utf-8")
    (tmp_path / "slow_hunter.toml").write_text(block("toml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(path):
    spec = importlib.util.spec_from_file_location("slow_hunter", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SlowHunter


def test_the_example_keeps_the_rules(example):
    assert_conforms(load(example / "slow_hunter.py"))


def test_the_example_is_an_attacker_of_thirty_lines():
    (attacker,) = (
        part for part in ast.parse(block("python")).body if isinstance(part, ast.ClassDef)
    )
    words = ast.get_docstring(attacker) or ""
    assert attacker.end_lineno - attacker.lineno + 1 - len(words.splitlines()) <= 30


def test_the_example_plays_by_its_file(example):
    small = ["--set", "threat.budget=400", "--set", "victim.recipe.epochs=1"]
    told = CliRunner().invoke(
        app, ["run", "slow_hunter.toml", "--no-figure", "--quiet", "--log", "a.db", *small]
    )
    assert told.exit_code == 0, told.output
    assert "SlowHunter" in told.stdout or "slow_hunter" in told.stdout


def test_the_examples_scenario_names_what_its_code_takes():
    played = tomllib.loads(block("toml"))["attackers"][1]
    assert played["use"] == "slow_hunter.py:SlowHunter"
    assert set(played["params"]) == {"step"}


def test_every_attacker_that_ships_stands_in_the_guide_with_what_it_needs():
    shipped = GUIDE.split("## Those that ship")[1].split("##")[0]
    lines = [line for line in shipped.splitlines() if line.startswith("| `")]
    rows = {line.split("|")[1].strip(): line for line in lines}
    for use in players.attackers.builtin:
        needs = rows[f"`{use}`"].split("|")[3]
        for need in getattr(players.attackers.find(use), "requires", frozenset()):
            assert need.replace("-", " ") in needs, (use, need)
