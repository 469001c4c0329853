"""Claims about what one looks up and begins with: `arena agents NAME`, `arena new scenario`."""

import json
import sys
from typing import get_args

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.registry.listing import Kind, inventory
from arena.registry.parameters import parameters


def run(*words, columns="80"):
    return CliRunner().invoke(app, list(words), env={"COLUMNS": columns})


@pytest.mark.parametrize("columns", ["80", "120"])
def test_a_name_is_told_with_all_its_parameters_whole(columns):
    result = run("agents", "reverse-sigmoid", columns=columns)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert lines[0].startswith("reverse-sigmoid (defences; built in)")
    (told,) = json.loads(run("agents", "reverse-sigmoid", "--json").stdout)["defences"]
    for one in told["parameters"]:
        place = next(n for n, line in enumerate(lines) if line.startswith(f"  {one['name']}: "))
        assert f"{one['default']} by default" in " ".join(lines[place : place + 2])
        below = " ".join(line.strip() for line in lines[place:])
        assert one["meaning"] in below
    assert any(one["meaning"] for one in told["parameters"])


def test_a_name_that_is_not_there_is_told_with_the_nearest():
    result = run("agents", "reverse-sigmoit")
    assert result.exit_code == 2
    assert "did you mean 'reverse-sigmoid'" in result.stderr


def test_meanings_are_read_of_a_class_and_its_bases_several_names_at_once():
    class Base:
        """One.

        Args:
            rate, decay: of the optimiser, and
                what follows.
            size: old.
        """

    class Player(Base):
        """Another.

        Args:
            size: new.

        Notes:
            rate: none.
        """

        def __init__(self, *, rate: float, size: int = 3, odd: int = 0, decay: float = 1.0):
            pass

    told = {one.name: one.meaning for one in parameters(Player)}
    both = "of the optimiser, and what follows."
    assert told == {"rate": both, "size": "new.", "odd": "", "decay": both}


class Elsewhere:
    """Told here.

    Args:
        rate: of the optimiser.
        size: of a batch.
    """


def test_a_meaning_that_is_told_elsewhere_is_told_in_full():
    class Player:
        """Another.

        Args:
            rate: see `Elsewhere`.
            size, odd: see `Elsewhere`; 3 where absent.
            seed: see `tests.no.Such`.
        """

        def __init__(self, rate=1, size=3, odd=0, seed=0, **more):
            pass

    told = {one.name: one.meaning for one in parameters(Player)}
    assert told == {
        "rate": "of the optimiser.",
        "size": "of a batch; 3 where absent.",
        "odd": "see `Elsewhere`; 3 where absent.",
        "seed": "see `tests.no.Such`.",
    }


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_meaning_sends_its_reader_to_the_code(kind):
    sent = {
        (entry.name, one.name)
        for entry in inventory(kind)
        for one in entry.parameters
        if one.meaning.startswith("see `")
    }
    assert sent == set()


def test_a_new_scenario_is_sound_short_and_commented_and_replaces_nothing(tmp_path):
    words = ("new", "scenario", "my-question", "--out", str(tmp_path))
    assert run(*words).exit_code == 0
    path = tmp_path / "my-question.toml"
    text = path.read_text()
    assert text.count("#") > 10
    assert len(text.splitlines()) < 45
    checked = run("scenarios", "check", str(path))
    assert checked.exit_code == 0, checked.output
    path.write_text("mine")
    again = run(*words)
    assert again.exit_code == 1
    assert "is there already" in again.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize("name", ["quickstart", "My Question", "../up"])
def test_a_name_that_no_new_scenario_can_have_is_refused(tmp_path, name):
    result = run("new", "scenario", name, "--out", str(tmp_path))
    assert result.exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_closes_the_pipe_is_no_plug_in(monkeypatch):
    def closed(*_):
        try:
            raise BrokenPipeError
        except BrokenPipeError:
            sys.exit(1)  # as rich does

    monkeypatch.setattr("arena.cli.agents.write_line", closed)
    result = run("agents", "noise")
    assert result.exit_code == 1
    assert result.output == ""


@pytest.mark.slow
def test_a_new_scenario_plays(tmp_path):
    run("new", "scenario", "my-question", "--out", str(tmp_path))
    result = run("run", str(tmp_path / "my-question.toml"), "--log", str(tmp_path / "a.db"),
                 "--set", "threat.budget=300", "--quiet")  # fmt: skip
    assert result.exit_code == 0, result.output
