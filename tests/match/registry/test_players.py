"""The catalog: our players, players of files, players of other distributions."""

import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Literal, get_origin

import pytest

from agents.base import Attacker
from arena.registry import players
from arena.registry.catalog import KINDS, Catalog
from arena.registry.parameters import effective, parameters, validated
from envs.defences.base import Defence
from envs.errors import ScenarioError, UnknownName
from envs.loading import imports
from envs.loading.imports import from_file

PLAYER = "from agents import Attacker\nclass Mine(Attacker):\n    def attack(self, o, k): ...\n"


NEEDS = {"stack": {"layers": ["undefended"]}}


@pytest.mark.parametrize("kind", KINDS)
def test_every_player_of_ours_can_be_built_and_says_what_it_is(kind):
    for entry in players.of(kind).describe():
        assert entry.fault == ""
        assert entry.summary
        players.create(kind, entry.name, NEEDS.get(entry.name))


def test_listing_names_imports_no_player(monkeypatch):
    monkeypatch.setattr("envs.loading.imports.from_target", lambda target: pytest.fail(target))
    assert "dfme" in players.attackers.names()


def test_the_undefended_victim_is_the_bare_defence():
    assert type(players.create("defence", "undefended")) is Defence


def test_a_stack_is_built_from_names_and_tables():
    layers = ["undefended", {"use": "dnf", "params": {"variant": "plain"}}]
    stack = players.create("defence", "stack", {"layers": layers})
    assert [type(layer).__name__ for layer in stack.layers] == ["Defence", "DNF"]
    params, _ = players.defences.resolve("stack", {"layers": layers})
    inner = params["layers"][1]
    assert (inner["use"], inner["params"]["variant"], inner["code"]) == ("dnf", "plain", "")


@pytest.mark.parametrize(
    ("layers", "line"),
    [
        (["undefnded"], "no defence named 'undefnded'; did you mean 'undefended'?"),
        ([{"use": "dnf", "params": {"variannt": "x"}}], "did you mean 'variant'?"),
        ([], "expected at least one layer to stack"),
    ],
)
def test_a_fault_in_a_stack_is_named(layers, line):
    with pytest.raises(ScenarioError) as refusal:
        players.defences.check("stack", {"layers": layers}, ("stack", "params"))
    assert str(refusal.value).startswith("stack.params")
    assert line in str(refusal.value)


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine.py"):
        (tmp_path / name).write_text(text)
        return f"{tmp_path / name}:Mine"

    return write


def test_an_attacker_in_a_file_of_its_own_is_found(file):
    player = players.create("attacker", file(PLAYER))
    assert isinstance(player, Attacker)
    assert type(player).__name__ == "Mine"


def test_a_file_is_found_from_the_working_directory(file):
    file(PLAYER)
    assert players.attackers.find("mine.py:Mine").__name__ == "Mine"


def test_a_file_is_read_again_when_it_was_edited_and_only_then(file):
    before = from_file(file(PLAYER))
    assert from_file(file(PLAYER)) is before
    assert from_file(file(PLAYER + "\n")) is not before


def test_two_files_of_one_name_do_not_meet(tmp_path):
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "mine.py"
        path.write_text(PLAYER)
        found.append(from_file(f"{path}:Mine"))
    assert found[0] is not found[1]
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import nowhere_to_be_found\n", ":1: ModuleNotFoundError: No module named"),
        ("x = 1\n\nx = 1 / 0\n", ":3: ZeroDivisionError: division by zero"),
        ("class Mine(:\n    pass\n", ":1: SyntaxError: "),
        ("class Other: ...\n", ": defines no 'Mine'"),
    ],
)
def test_a_file_that_does_not_import_is_told_in_one_line(file, text, words):
    use = file(text)
    with pytest.raises(ScenarioError) as refusal:
        players.attackers.find(use)
    message = str(refusal.value)
    assert message.startswith(use.rpartition(":")[0] + words)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("class Mine: ...\n", "expected a subclass of agents.base.Attacker, got Mine"),
        ("Mine = 3\n", "expected a subclass of agents.base.Attacker, got int"),
        (
            "from agents import Attacker\nclass Mine(Attacker): ...\n",
            "Mine does not define attack",
        ),
    ],
)
def test_what_is_no_attacker_is_refused(file, text, words):
    with pytest.raises(ScenarioError, match=words):
        players.attackers.find(file(text))


def test_a_file_that_is_not_there_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScenarioError, match=r"no file gone\.py; it is looked for beside the scen"):
        players.attackers.find("gone.py:Mine")


# Other distributions


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """Install a distribution by hand: a package and its metadata on the import path."""

    def install(package, offers, code=PLAYER):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(code)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[arena.attackers]\n{offers}\n")
        # a catalog of its own, because the real one has looked around already
        return Catalog("attacker", "agents.base:Attacker", players.attackers.builtin)

    monkeypatch.syspath_prepend(tmp_path)
    return install


def test_a_player_of_another_distribution_is_found_and_listed(distribution):
    attackers = distribution("their_pack", "their-attack = their_pack:Mine")
    assert attackers.find("their-attack").__module__ == "their_pack"
    (entry,) = [entry for entry in attackers.describe() if entry.name == "their-attack"]
    assert entry.origin == "their_pack"


def test_what_distributions_offer_is_looked_for_once_and_again_after_one_came(
    tmp_path, monkeypatch
):
    looks = []

    def look(**options):
        looks.append(options)
        return entry_points(**options)

    monkeypatch.setattr(imports, "entry_points", look)
    monkeypatch.syspath_prepend(tmp_path)
    assert "late" not in imports.offered("arena.attackers")
    imports.offered("arena.attackers")
    assert len(looks) == 1
    info = tmp_path / "late-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: late\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[arena.attackers]\nlate = late:Late\n")
    assert "late" in imports.offered("arena.attackers")


def test_another_distribution_cannot_take_a_name_of_ours(distribution):
    attackers = distribution("grabbing_pack", "noise = grabbing_pack:Mine")
    assert attackers.find("noise").__module__ == "agents.attackers.noise"


def test_two_distributions_of_one_name_are_refused(distribution):
    distribution("first_pack", "both = first_pack:Mine")
    attackers = distribution("second_pack", "both = second_pack:Mine")
    with pytest.raises(ScenarioError, match="2 distributions offer attacker 'both'"):
        attackers.find("both")


def test_a_broken_plug_in_breaks_nothing_but_itself(distribution):
    attackers = distribution("broken_pack", "broken = broken_pack:Mine", code="1 / 0\n")
    listing = {entry.name: entry for entry in attackers.describe()}
    assert "ZeroDivisionError" in listing["broken"].fault
    assert listing["noise"].fault == ""
    with pytest.raises(ScenarioError, match=r"__init__\.py:1: ZeroDivisionError"):
        attackers.find("broken")


def test_a_miss_suggests_also_what_others_offer(distribution):
    attackers = distribution("far_pack", "slow-hunter = far_pack:Mine")
    with pytest.raises(UnknownName, match="did you mean 'slow-hunter'"):
        attackers.find("slow-huntr")


def test_the_code_of_another_distribution_is_part_of_the_episode_and_ours_is_not(distribution):
    attackers = distribution("coded_pack", "coded = coded_pack:Mine")
    assert attackers.resolve("coded", {})[1]
    assert attackers.resolve("noise", {})[1] == ""


# Parameters


@dataclass
class Settings:
    rate: float = 0.1
    steps: int = 3


class Told:
    def __init__(
        self,
        copy: int,
        *,
        rates: tuple[float, ...] = (0.1,),
        mode: str | None = None,
        settings: Settings = Settings(),  # noqa: B008
        callback=print,
    ) -> None:
        self.copy, self.rates, self.mode, self.settings = copy, rates, mode, settings


def test_parameters_are_converted_to_what_is_declared():
    given = validated(Told, {"copy": 1e3, "rates": [1, 0.5], "settings": {"rate": 1}})
    assert given == {"copy": 1000, "rates": (1.0, 0.5), "settings": Settings(rate=1.0)}
    assert isinstance(given["copy"], int)


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({}, "x.copy: missing; expected a whole number"),
        ({"copy": 0.5}, "x.copy: expected a whole number, got 0.5"),
        ({"copy": True}, "x.copy: expected a whole number, got true"),
        ({"copy": 1, "mode": 3}, "x.mode: expected a text, got 3"),
        ({"copy": 1, "rates": [1, "2"]}, "x.rates.1: expected a number, got '2'"),
        ({"copy": 1, "mod": "a"}, "x.mod: unknown parameter; did you mean 'mode'?"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_was_expected(params, line):
    with pytest.raises(ScenarioError) as refusal:
        validated(Told, params, prefix=("x",))
    assert str(refusal.value) == line


def test_effective_parameters_fill_in_the_defaults_that_a_file_can_hold():
    assert effective(Told, {"copy": 2}) == {
        "copy": 2,
        "mode": None,
        "rates": [0.1],
        "settings": {"rate": 0.1, "steps": 3},
    }


def test_parameters_are_listed_with_type_and_default():
    listed = {one.name: (one.type, one.default) for one in parameters(Told)}
    assert listed["copy"] == ("int", "")
    assert listed["rates"] == ("tuple[float, ...]", "(0.1,)")
    assert listed["mode"] == ("str | None", "None")


@pytest.mark.parametrize(
    "choices", [Literal[1, 2], Literal[1, 2] | None, tuple[Literal[0, 1], ...]]
)
def test_true_is_no_number_of_a_choice(choices):
    def chosen(norm):
        pass

    chosen.__annotations__["norm"] = choices
    one = (1,) if get_origin(choices) is tuple else 1
    assert validated(chosen, {"norm": one}) == {"norm": one}
    wrong = [True] if get_origin(choices) is tuple else True
    with pytest.raises(ScenarioError, match="got true"):
        validated(chosen, {"norm": wrong})
