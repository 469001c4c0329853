"""The import contracts of pyproject.toml hold, and a bare import loads no heavy library."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_layers_folders_and_players_import_only_what_their_contracts_allow():
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
