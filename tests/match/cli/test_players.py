"""`arena check` and `arena new`: from an empty folder to a player in the game."""

import ast
import json
import sys

import pytest
from typer.testing import CliRunner

from arena.cli.app import app
from arena.conformance.declaration import check_declaration
from arena.registry import players
from arena.registry.catalog import KINDS
from arena.scenario import load


@pytest.fixture
def cli(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*words, code=0):
        result = CliRunner().invoke(app, [str(word) for word in words])
        assert result.exit_code == code, result.output
        return result

    return call


def test_a_player_that_keeps_the_rules_passes_the_check(cli):
    told = cli("check", "static", "--set", "strength=0.5")
    assert told.stdout.endswith("static: conforms\n")


def test_a_player_that_breaks_a_rule_fails_the_check_with_the_claim(cli, tmp_path):
    (tmp_path / "wild.py").write_text(
        "from agents import Countermeasure, Defender\n"
        "class Wild(Defender):\n"
        "    def act(self, view):\n"
        "        return Countermeasure(strength=7.0)\n"
    )
    told = cli("check", "wild.py:Wild", "--json", code=1)
    verdict = json.loads(told.stdout)
    assert not verdict["passed"]
    assert "decides" in [one["name"] for one in verdict["findings"] if not one["passed"]]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["statik"], "no attacker, defender or defence named 'statik'; did you mean 'static'?"),
        (["static", "--set", "strenth=1"],
         "static.strenth: unknown parameter; did you mean 'strength'?"),
        (["static", "--shape", "8,8"],
         "--shape: expected channels,height,width like 3,8,8, got '8,8'"),
        (["gone.py:Gone"], "gone.py:Gone: no file gone.py; "),
        # ":X:" is a picture to whoever draws it
        (["gone.py:X"], "gone.py:X: no file gone.py; "),
    ],
)  # fmt: skip
def test_a_check_of_what_is_not_there_is_a_usage_error(cli, words, line):
    assert cli("check", *words, code=2).stderr.startswith(f"arena: {line}")


def test_a_new_attacker_passes_its_own_test(cli, tmp_path, monkeypatch, capsys):
    cli("new", "attacker", "my-probe", "--out", tmp_path / "plugins")
    monkeypatch.chdir(tmp_path / "plugins" / "my_probe")
    with monkeypatch.context() as patch:
        patch.setattr("sys.path", [*sys.path])
        code = pytest.main(["-q", "-p", "no:cacheprovider"])
    told = capsys.readouterr().out
    assert code == 0, told
    assert "1 passed" in told


@pytest.mark.parametrize("kind", ["defence", "defender"])
def test_a_new_plug_in_passes_the_check_and_has_a_playable_scenario(cli, tmp_path, kind):
    cli("new", kind, "my-probe")
    load(tmp_path / "my_probe" / "my_probe.toml").check()
    told = cli("check", f"my_probe/my_probe/{kind}.py:MyProbe")
    assert told.stdout.endswith("MyProbe: conforms\n")


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_plug_in_is_small_and_installs_under_its_name(cli, tmp_path, kind):
    cli("new", kind, "my-probe")
    folder = tmp_path / "my_probe"
    assert f'my-probe = "my_probe.{kind}:MyProbe"' in (folder / "pyproject.toml").read_text()
    tree = ast.parse((folder / "my_probe" / f"{kind}.py").read_text())
    (player,) = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    assert player.name == "MyProbe"
    assert player.end_lineno - player.lineno < 45
    assert "$" not in "".join(
        path.read_text() for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"
    )


def test_a_new_attacker_plays_at_once(cli, tmp_path):
    cli("new", "attacker", "my-probe")
    words = ["run", "my_probe/my_probe.toml", "--quiet", "--no-figure", "--json"]
    small = ["--set", "threat.budget=500", "--set", "victim.recipe.epochs=1"]
    (scenario,) = json.loads(cli(*words, *small).stdout)["scenarios"]
    assert [row["status"] for row in scenario["episodes"]] == ["success", "success"]
    assert {row["attacker"] for row in scenario["episodes"]} == {"noise", "my-probe"}


def test_nothing_is_written_over(cli, tmp_path):
    (tmp_path / "my_probe").mkdir()
    told = cli("new", "attacker", "my-probe", code=1)
    assert "is there already; nothing was written" in told.stderr
    assert list((tmp_path / "my_probe").iterdir()) == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("My-Probe", "small letters, digits"),
        ("../up", "small letters, digits"),
        ("1st", "small letters, digits"),
        ("class", "a package cannot be called 'class'"),
        ("random", "a package cannot be called 'random'"),
        ("arena", "a package cannot be called 'arena'"),
        ("torch", "a package cannot be called 'torch'"),
        ("pytest", "a package cannot be called 'pytest'"),
        ("a" * 101, "expected a name of at most 100 small letters"),
        ("dfme", "there is attacker 'dfme' already"),
    ],
)
def test_a_name_that_would_not_work_is_refused(cli, tmp_path, name, reason):
    assert reason in cli("new", "attacker", name, code=2).stderr
    assert list(tmp_path.iterdir()) == []


SLIPS = """
import os, sys
import torch
from agents import ArchitectureGuess, Attacker, Countermeasure, Defender
from envs.defences.base import Defence

print("imported")


class Exits(Attacker):
    def attack(self, oracle, kit):
        print("playing")
        sys.exit(0)


class Needs(Attacker):
    def __init__(self, bare):
        pass

    def attack(self, oracle, kit):
        pass


class Leaves(Attacker):
    def attack(self, oracle, kit):
        os._exit(3)


class Unmade(Attacker):
    def __init__(self):
        sys.exit(0)

    def attack(self, oracle, kit): ...


class Fitted(Attacker):
    def attack(self, oracle, kit):
        self.clone = {"a model": "of another library"}


class Kinky(Attacker):
    inferred = property(lambda self: 1 / 0)

    def attack(self, oracle, kit): ...


class Bare(Defence):
    def harden(self, victim, kit):
        return None


class Free(Defence):
    overhead_macs = -(10**6)


class Vague(Defence):
    epsilon = float("nan")


class Silent(Defender):
    def act(self, view):
        return Countermeasure()

    def notes(self):
        return None


class Forgets(Defender):
    def act(self, view):
        return Countermeasure()

    def carried_state(self):
        return [1]


class Guesses(Attacker):
    def attack(self, oracle, kit):
        self.inferred = ArchitectureGuess(exits=torch.tensor(2))


class Misspelt(Defence):
    def __init__(self, strenth=1.0):
        pass

    def perturb_posterior(self, posteriors, serving):
        return posteriors

    def perturb_images(self, images, *, strength, generator):
        return images
"""


@pytest.mark.parametrize(
    ("player", "name", "told"),
    [
        ("Exits", "ends", "budget 600, soft labels: SystemExit: 0"),
        ("Leaves", "ends", "budget 600, soft labels: SystemExit: os._exit(3)"),
        ("Unmade", "requires", "cannot be set up: SystemExit: 0"),
        ("Fitted", "clone", "budget 600, soft labels: expected a torch module as clone, got dict"),
        ("Kinky", "plays", "ZeroDivisionError: division by zero"),
        ("Bare", "hardens", "Bare: expected harden to return a Victim, got NoneType"),
        (
            "Free",
            "hardens",
            "Free.overhead_macs is -1000000; expected a whole number of at least 0",
        ),
        ("Vague", "hardens", "Vague.epsilon is nan; expected a number from 0 to 2"),
        ("Silent", "says", "notes(): expected a list of Note, got NoneType"),
        ("Forgets", "says", "carried_state(): expected a mapping, got list"),
        ("Guesses", "inferred", "inferred.exits: expected a whole number below 2**63, got Tensor"),
    ],
)
def test_every_failure_of_a_player_is_a_claim_that_failed(cli, tmp_path, player, name, told):
    (tmp_path / "slips.py").write_text(SLIPS)
    found = json.loads(cli("check", f"slips.py:{player}", "--json", code=1).stdout)["findings"]
    assert told in [one["detail"] for one in found if one["name"] == name and not one["passed"]]


def test_a_parameter_of_any_type_that_is_missing_is_named(cli, tmp_path):
    (tmp_path / "slips.py").write_text(SLIPS)
    told = cli("check", "slips.py:Needs", code=2).stderr
    assert told.endswith("arena: slips.py:Needs.bare: missing; expected a value\n")


def test_slips_that_play_on_without_a_word_are_warned_of(cli, tmp_path):
    (tmp_path / "slips.py").write_text(SLIPS)
    found = json.loads(cli("check", "slips.py:Misspelt", "--json").stdout)["findings"]
    warnings = {one["name"]: one["detail"] for one in found if one["warning"]}
    assert "did you mean the hook 'perturb_posteriors'?" in warnings["spelling"]
    assert warnings["hooks"].startswith("perturb_images: changed no answer")
    assert warnings["annotations"].startswith("strenth: annotate")
    assert "warning" in cli("check", "slips.py:Misspelt").stdout


def test_built_in_players_are_not_warned_of_their_declaration():
    found = [
        finding
        for kind in KINDS
        for name in players.of(kind).names()
        for finding in check_declaration(players.of(kind).find(name))
    ]
    assert not found


def test_a_failed_episode_shows_its_traceback(cli, tmp_path):
    (tmp_path / "slips.py").write_text(SLIPS)
    (tmp_path / "slips.toml").write_text(
        'version = 1\nname = "slips"\ndata = "digits"\nseeds = [0]\nthreat = { budget = 50 }\n'
        'victim = { use = "conv-small", recipe = { epochs = 1 } }\nclone = "mlp-small"\n'
        'attackers = [{ use = "slips.py:Exits" }]\ndefenders = [{ name = "undefended" }]\n'
    )
    told = cli("run", "slips.toml", "--quiet", "--json", "--debug", code=1)
    assert "sys.exit(0)" in told.stderr
    (row,) = json.loads(told.stdout)["scenarios"][0]["episodes"]
    assert (row["status"], row["error"]) == ("error", "SystemExit: 0")
    assert "    sys.exit(0)" in cli("episodes", "show", row["id"]).stdout
