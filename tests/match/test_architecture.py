"""The layers go one way, and the command line starts without the heavy libraries."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_layers_go_one_way_and_no_module_is_part_of_a_circle():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_bare_packages_import_nothing_heavy():
    code = (
        "import sys, envs, arena\n"
        "heavy = {'torch', 'numpy', 'sqlalchemy', 'gymnasium', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_no_player_module_of_ours_reaches_into_a_victim():
    for path in (ROOT / "agents").rglob("*.py"):
        text = path.read_text()
        assert "envs.victim.victim" not in text, path
        assert "envs.victim.execution" not in text, path
