"""Isolated attackers of two workers: stopped, they end, and the next run plays all."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.match.log.test_kills import Table, children_of, outcomes, sound

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
SCENARIO = {"seeds": [0, 1], "checkpoints": 8, "victim": {"seed": 0},
            "threat": {"budget": 20_000}}  # fmt: skip


def playing(table, episodes):
    """Wait until so many episodes have measured something."""
    deadline = time.monotonic() + 300
    while len({episode for episode, _ in table.flushed()}) < episodes:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pids):
    """Those of some processes that have not ended; what waits to be reaped has."""
    states = {pid: Path(f"/proc/{pid}/stat") for pid in pids}
    return [pid for pid, stat in states.items() if stat.exists()
            and stat.read_text().rpartition(")")[2].split()[0] != "Z"]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_two_workers_with_isolated_attackers_end_with_them_and_the_next_run_plays_all(
    tiny_file, number, code
):
    scenario = tiny_file(**SCENARIO)
    table = Table(scenario, "isolated")
    process = table.run("--isolate", "--workers", "2")
    try:
        playing(table, 2)
        others = children_of(process.pid)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    if number != signal.SIGKILL:
        assert "interrupted with 2 episodes left" in errors.splitlines()[-1]
        rows = json.loads(table.call("episodes", "--json"))
        assert [row["status"] for row in rows] == ["cancelled"] * 2
    deadline = time.monotonic() + 30
    while left := alive(others):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    told = table.run("--isolate", "--workers", "2")
    _, errors = told.communicate(timeout=600)
    assert told.returncode == 0, errors
    trusted = Table(scenario, "trusted")
    trusted.call("run", scenario, "--quiet", "--no-figure", "--workers", "2")
    assert outcomes(table) == outcomes(trusted)
    assert len(outcomes(table)) == 2
    assert sound(table)
