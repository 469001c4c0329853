"""What an episode keeps does not grow with its budget."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def measured(budget):
    """Play an episode in a process of its own, with a victim that answers at once."""
    command = [sys.executable, str(ROOT / "benchmarks/episode_memory.py"), "--budget", str(budget)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("budget", [100_000, 20_000_000])
def test_neither_memory_nor_log_grow_with_the_budget(budget):
    found = measured(budget)
    # to keep every image and answer would take 30 MB
    assert found["memory_growth_mb"] < 10
    assert found["memory_peak_mb"] - found["memory_early_mb"] < 100
    assert found["log_mb"] + found["files_mb"] < 1
    assert found["log_rows"] <= 120
