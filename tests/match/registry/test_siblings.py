"""Players of files may import the modules beside them, whose sources are part of their identity."""

import pickle
import sys

import pytest

from arena.registry import players
from envs.errors import ScenarioError
from envs.loading.imports import file_digest, from_file

PLAYER = """
{imports}
from agents import Attacker

class Probe(Attacker):
    def attack(self, oracle, kit):
        {body}

    def number(self):
        {body}
        return {value}
"""


def player(imports="", value="0", body="pass"):
    return PLAYER.format(imports=imports, value=value, body=body)


def number(path):
    return from_file(f"{path}:Probe")().number()


IMPORTS = {
    "by name": ("import helper", "helper.N", "pass"),
    "from it": ("from helper import N", "N", "pass"),
    "relative": ("from .helper import N", "N", "pass"),
    "relative module": ("from . import helper", "helper.N", "pass"),
    "under another name": ("import helper as h", "h.N", "pass"),
    "late": ("", "helper.N", "import helper"),
    "late and relative": ("", "N", "from .helper import N"),
}


@pytest.mark.parametrize("way", IMPORTS)
def test_a_helper_beside_a_player_is_found_and_counts(tmp_path, way):
    imports, value, body = IMPORTS[way]
    file, helper = tmp_path / "own.py", tmp_path / "helper.py"
    file.write_text(player(imports, value, body))
    for n in (1, 2):  # of one size and within one second
        helper.write_text(f"N = {n}\n")
        assert number(file) == n
    before = file_digest(f"{file}:Probe")
    helper.write_text("N = 3\n")
    assert file_digest(f"{file}:Probe") != before
    assert number(file) == 3
    assert "helper" not in sys.modules


def test_helpers_of_helpers_and_of_packages_count(tmp_path):
    (tmp_path / "own.py").write_text(player("import tools.inner", "tools.inner.N"))
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "__init__.py").write_text("")
    (tmp_path / "tools" / "inner.py").write_text("from .deep import N\n")
    (tmp_path / "tools" / "deep.py").write_text("from base import N\n")
    (tmp_path / "base.py").write_text("N = 7\n")
    use = f"{tmp_path / 'own.py'}:Probe"
    assert number(tmp_path / "own.py") == 7
    seen = {file_digest(use)}
    for name in ("base.py", "tools/deep.py", "tools/inner.py", "tools/__init__.py"):
        path = tmp_path / name
        path.write_text(path.read_text() + "# edited\n")
        seen.add(file_digest(use))
    assert len(seen) == 5


def test_a_player_within_a_package_imports_it_by_name_and_relatively(tmp_path):
    package = tmp_path / "mine"
    (package / "sub").mkdir(parents=True)
    (package / "__init__.py").write_text("START = 10\n")
    (package / "sub" / "__init__.py").write_text("")
    (package / "other.py").write_text("N = 2\n")
    (package / "sub" / "own.py").write_text(
        player(
            "import mine\nfrom mine.other import N\nfrom ..other import N as M", "mine.START+N+M"
        )
    )
    assert number(package / "sub" / "own.py") == 14
    before = file_digest(f"{package / 'sub' / 'own.py'}:Probe")
    (package / "__init__.py").write_text("START = 20\n")
    assert number(package / "sub" / "own.py") == 24
    assert file_digest(f"{package / 'sub' / 'own.py'}:Probe") != before


def test_helpers_of_one_name_in_two_folders_do_not_meet(tmp_path):
    for name, n in (("a", 1), ("b", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "helper.py").write_text(f"N = {n}\n")
        (tmp_path / name / "own.py").write_text(player("import helper", "helper.N"))
    assert [number(tmp_path / name / "own.py") for name in "aba"] == [1, 2, 1]


def test_a_neighbour_that_is_not_imported_does_not_count(tmp_path):
    (tmp_path / "own.py").write_text(player())
    before = file_digest(f"{tmp_path / 'own.py'}:Probe")
    (tmp_path / "stranger.py").write_text("N = 1\n")
    assert file_digest(f"{tmp_path / 'own.py'}:Probe") == before


def test_the_arena_and_the_standard_library_are_not_replaced_by_neighbours(tmp_path):
    for name in ("agents", "json"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "own.py").write_text(player("import json", "len(json.dumps(1))"))
    assert number(tmp_path / "own.py") == 1


def test_objects_of_a_helpers_class_can_be_saved(tmp_path):
    (tmp_path / "helper.py").write_text("class Part:\n    pass\n")
    (tmp_path / "own.py").write_text(player("from helper import Part", "Part()"))
    made = number(tmp_path / "own.py")
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_a_fault_of_a_helper_is_told_with_its_line(tmp_path):
    (tmp_path / "helper.py").write_text("\n1 / 0\n")
    (tmp_path / "own.py").write_text(player("import helper"))
    with pytest.raises(ScenarioError) as refusal:
        players.attackers.find(f"{tmp_path / 'own.py'}:Probe")
    assert f"{tmp_path / 'helper.py'}:2: ZeroDivisionError" in str(refusal.value)
    (tmp_path / "helper.py").write_text("N = 1\n")  # mended, it is read again
    assert number(tmp_path / "own.py") == 0


def test_a_file_whose_name_is_no_identifier_is_a_player_too(tmp_path):
    (tmp_path / "helper.py").write_text("N = 4\n")
    (tmp_path / "my-own.v2.py").write_text(player("from .helper import N", "N"))
    assert number(tmp_path / "my-own.v2.py") == 4
