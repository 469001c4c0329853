"""A package that takes the name of one of ours is named in one line, with the way out."""

import os
import subprocess
import sys
from importlib.machinery import PathFinder

import pytest

from arena.system.shadowing import ROOT, ShadowedPackage, place_of, require_own_packages

DOOR = "import arena\narena.run('quickstart')"


def run_python(*arguments, folder, path=()):
    """Run Python in a folder; the folder comes first on its path, as it does for `-m` and `-c`."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    env.pop("PYTHONSAFEPATH", None)
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=env, cwd=folder
    )


def own_package(folder):
    (folder / "agents").mkdir()
    (folder / "agents" / "__init__.py").write_text("from .tools import helper\n")
    return folder / "agents" / "__init__.py"


def own_file(folder):
    (folder / "agents.py").write_text("class Agent: ...\n")
    return folder / "agents.py"


def own_envs(folder):
    (folder / "envs").mkdir()
    (folder / "envs" / "__init__.py").write_text("")
    return folder / "envs" / "__init__.py"


@pytest.mark.parametrize("shadow", [own_package, own_file, own_envs])
def test_the_command_line_names_the_file_that_shadows_and_the_way_out(tmp_path, shadow):
    place = shadow(tmp_path)
    done = run_python("-m", "arena.cli", "scenarios", "list", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1  # a line, no traceback
    assert f"but {place} shadows it" in done.stderr
    assert "rename that one, or work in another folder" in done.stderr


@pytest.mark.parametrize("shadow", [own_package, own_file, own_envs])
def test_the_python_door_names_the_file_that_shadows(tmp_path, shadow):
    place = shadow(tmp_path)
    done = run_python("-c", DOOR, folder=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("arena.system.shadowing.ShadowedPackage: ")
    assert f"but {place} shadows it" in last


@pytest.mark.slow
def test_a_folder_without_init_shadows_nothing_that_python_finds(tmp_path):
    (tmp_path / "envs").mkdir()
    done = run_python("-m", "arena.cli", "scenarios", "list", folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_folder_without_init_is_named_where_an_import_hook_comes_too_late(tmp_path, monkeypatch):
    (tmp_path / "envs").mkdir()
    (tmp_path / "agents").symlink_to(ROOT / "agents")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])
    with pytest.raises(ShadowedPackage, match="envs shadows it"):
        require_own_packages(new_process=True)


def test_an_installed_distribution_is_named(tmp_path):
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("class Agent: ...\n")
    info = tmp_path / "openai_agents-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: openai-agents\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("agents\n")
    (info / "RECORD").write_text("agents/__init__.py,,\n")
    elsewhere = tmp_path / "work"
    elsewhere.mkdir()
    done = run_python("-m", "arena.cli", "--help", folder=elsewhere, path=[tmp_path])
    assert done.returncode == 2
    assert "of the distribution openai-agents shadows it" in done.stderr
    assert "an environment of its own" in done.stderr


def test_a_package_that_was_imported_before_is_named(tmp_path):
    own_file(tmp_path)
    code = f"import agents, sys\nsys.path.remove('')\n{DOOR}"
    done = run_python("-c", code, folder=tmp_path)
    assert f"{tmp_path / 'agents.py'} shadows it" in done.stderr.strip().splitlines()[-1]


@pytest.mark.slow
def test_workers_are_not_begun_where_they_would_import_another_package(tmp_path):
    place = own_package(tmp_path)
    code = (
        "import agents, envs, sys\n"
        "from arena.runner.workers.options import WorkerOptions\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "WorkerOptions.of(2).pool(2, None)"
    )
    elsewhere = tmp_path / "work"
    elsewhere.mkdir()
    done = run_python("-c", code, folder=elsewhere)
    assert f"but {place} shadows it" in done.stderr.strip().splitlines()[-1]


def test_our_own_packages_are_found():
    assert place_of("agents") == ROOT / "agents"
    require_own_packages()
    require_own_packages(new_process=True)
