"""Authors of plug-ins check their types against an editable install, from outside the checkout."""

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from arena.cli.scaffold import create
from arena.registry.catalog import KINDS
from arena.system.shadowing import ROOT

pytest.importorskip("setuptools")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BUILD = "import sys\nfrom setuptools import build_meta\nbuild_meta.build_editable(sys.argv[1])"


@pytest.fixture
def python(tmp_path):
    """The Python of an environment that has an editable install of a copy of the packages."""
    checkout, wheels = tmp_path / "checkout", tmp_path / "wheels"
    for name in ("arena", "agents", "envs", "scenarios"):
        shutil.copytree(ROOT / name, checkout / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    wheels.mkdir()
    subprocess.run(
        [sys.executable, "-c", BUILD, wheels], cwd=checkout, check=True, capture_output=True
    )
    (wheel,) = wheels.iterdir()
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("**/site-packages")
    ZipFile(wheel).extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return next((tmp_path / "env").glob("*/python"))


def mypy(python: Path, folder: Path):
    return subprocess.run(
        [python, "-m", "mypy", "--cache-dir", folder.parent / "cache"],
        cwd=folder, capture_output=True, text=True, check=False, env={},
    )  # fmt: skip


def test_what_arena_new_writes_type_checks_strictly(tmp_path, python):
    for kind in KINDS:
        create(kind, f"my-{kind}", tmp_path)
        done = mypy(python, tmp_path / f"my_{kind}")
        assert done.stdout.startswith("Success: no issues found in 3 source files"), done.stdout
    (tmp_path / "my_attacker" / "tests" / "wrong.py").write_text(
        "from agents import Kit\n\n\ndef f(kit: Kit) -> int:\n    return kit.device\n"
    )
    done = mypy(python, tmp_path / "my_attacker")
    assert 'got "device", expected "int"' in done.stdout  # our types, not Any
