"""Code that a log or a scenario file names is imported only where the user allows it."""

import json

import pytest
from typer.testing import CliRunner

import arena
from agents.attackers.noise import Noise
from arena.cli.app import app
from arena.registry.trust import require_trust
from arena.scenario import Scenario
from envs.errors import ScenarioError
from envs.loading import siblings

OWN = """
from agents.attackers.noise import Noise
from envs.defences.base import Defence


class Asks(Noise):
    ...


class Serves(Defence):
    ...
"""
HINT = "and an import runs what is written there; read it, and then allow it by --trust-plugins"


@pytest.fixture
def cli(tmp_path, monkeypatch):
    """Run the command in an empty folder; an import of a file beside `own.py` is counted."""
    monkeypatch.chdir(tmp_path)
    imported, load = [], siblings.load
    monkeypatch.setattr(siblings, "load", lambda path, *rest: (
        imported.append(path.name), load(path, *rest))[1])  # fmt: skip

    def call(*words, code=0):
        imported.clear()
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == code, result.output
        return result

    call.imported = imported
    return call


@pytest.fixture
def with_plug_ins(tiny_file, tmp_path):
    """A scenario whose attacker and defence are in files of their own."""
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "shield.py").write_text(OWN)
    return tiny_file(
        record="queries",
        attackers=[{"use": f"{tmp_path}/own.py:Asks"}],
        defenders=[{"defence": f"{tmp_path}/shield.py:Serves"}, {"defence": "undefended"}],
    )


@pytest.mark.parametrize("command", [("scenarios", "check"), ("train", "--quiet")])
def test_a_file_that_a_scenario_names_is_imported_only_when_that_is_allowed(
    cli, with_plug_ins, tmp_path, command
):
    told = cli(*command, with_plug_ins, code=2)
    (line,) = told.stderr.splitlines()
    assert f"this imports {tmp_path}/own.py, {tmp_path}/shield.py, {HINT}" in line
    assert cli.imported == []
    cli(*command, with_plug_ins, "--trust-plugins")
    assert "own.py" in cli.imported


def test_a_check_in_json_names_the_file_as_a_problem(cli, with_plug_ins):
    told = cli("scenarios", "check", with_plug_ins, "--json", code=2)
    (verdict,) = json.loads(told.stdout)
    assert [HINT in problem for problem in verdict["problems"]] == [True]


def test_a_file_that_a_log_names_is_imported_only_when_that_is_allowed(
    cli, with_plug_ins, tmp_path
):
    cli("run", with_plug_ins, "--quiet", "--no-figure", "--device", "cpu")  # it is played: trusted
    rows = json.loads(cli("episodes", "--json").stdout)
    served = next(row["id"] for row in rows if row["defender"] == "Serves")
    for words in (["--verify"], ["--against", "Serves"]):
        told = cli("replay", served, *words, "--quiet", code=2)
        assert told.stderr.count("\n") == 1
        assert HINT in told.stderr
        assert f"{tmp_path}/shield.py" in told.stderr
        assert cli.imported == []
        cli("replay", served, *words, "--quiet", "--trust-plugins")
        assert "shield.py" in cli.imported
    # these read the log alone, or import what the user names
    for words in ((), ("--against", "undefended"), ("--against", f"{tmp_path}/shield.py:Serves")):
        cli("replay", served, *words, "--quiet")
        assert "own.py" not in cli.imported
    with arena.open_log("arena.db") as log:
        with pytest.raises(ScenarioError, match="trust_plugins=True"):
            log.replay(served, verify=True)
        assert log.replay(served, verify=True, trust_plugins=True).same


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({"attacker": {"use": "a/own.py:Asks", "params": {}}}, "a/own.py"),
        ({"defence": [{"use": "stack", "params": {"parts": ["dnf", "b.py:X"]}}]}, "b.py"),
        ({"attacker": {"wrappers": [{"use": "averaging"}, {"use": "w.py:W"}]}}, "w.py"),
        ({"params": {"phases": [{"use": "c.py:C"}, {"use": "c.py:D"}]}}, "c.py"),
        ({"use": "class:antigravity:Flight#00"}, "module antigravity"),
        ([{"use": "d.py:D"}, ("class:os.path:X#1",)], "d.py, module os.path"),
    ],
)
def test_code_is_found_wherever_settings_name_it(settings, places):
    with pytest.raises(ScenarioError) as refusal:
        require_trust(settings)
    assert str(refusal.value).startswith(f"this imports {places}, ")


class Given(Noise):
    """Given to `arena.run` by this process."""


def test_what_this_process_was_given_and_what_is_registered_needs_no_trust(tmp_path, tiny):
    require_trust({"use": "dfme", "params": {"path": "folder/of.pyramids", "loss": "l1"}})
    log = str(tmp_path / "given.db")
    arena.run(Scenario.parse(tiny()), attackers=[Given], log=log)
    with arena.open_log(log) as opened:
        (id,) = opened.episodes().episode_id
        assert opened.replay(id, verify=True).same


def test_data_and_networks_of_a_file_need_it_as_players_do(cli, tiny_file, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import torch\n\n\ndef images(count=300):\n"
        "    return torch.rand(count, 1, 8, 8), torch.arange(count) % 3\n"
    )
    path = tiny_file(data=f"{tmp_path}/mine.py:images", record="queries")
    told = cli("scenarios", "check", path, code=2)
    assert f"this imports {tmp_path}/mine.py, {HINT}" in told.stderr
    assert cli.imported == []
    cli("run", path, "--quiet", "--no-figure", "--device", "cpu")
    (row,) = json.loads(cli("episodes", "--json").stdout)
    for words in (["--verify"], ["--against", "randp"]):
        assert HINT in cli("replay", row["id"], *words, "--quiet", code=2).stderr
        assert cli.imported == []
        cli("replay", row["id"], *words, "--quiet", "--trust-plugins")
