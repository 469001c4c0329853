"""Several processes play one match into one log."""

import os
import signal
import subprocess
import sys
import time

import pytest

from arena.log.rows import EpisodeFilter
from arena.log.store import Log
from arena.match import play
from arena.scenario import load
from envs.errors import LogError

TINY = """
version = 1
name = "tiny"
data = "digits"
seeds = [0, 1]
checkpoints = 2
victim = { use = "conv-small", recipe = { epochs = 1 } }
clone = { use = "mlp-small" }
threat = { budget = 500 }
attackers = [{ use = "noise" }]
defenders = [{ name = "undefended" }]
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_two_workers_play_what_one_process_plays_and_in_the_same_order(tmp_path, path):
    outcomes = []
    for workers in (1, 2):
        with Log.open(tmp_path / f"{workers}.db") as log:
            rows = play(load(str(path)), log=log, workers=workers).episodes
        outcomes.append([(row.seed, row.status, row.answer_digest, row.clone_accuracy)
                         for row in rows])  # fmt: skip
    assert outcomes[0] == outcomes[1]


def test_an_interrupt_stops_the_workers_and_their_episodes_end_as_cancelled(tmp_path, path):
    log_path = tmp_path / "a.db"
    command = [sys.executable, "-m", "arena.cli", "run", str(path), "--workers", "2"]
    options = ["--log", str(log_path), "--set", "threat.budget=5_000_000", "--no-figure"]
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + 200
            while time.monotonic() < deadline and _with_rounds(log_path) < 2:
                time.sleep(0.5)
            os.kill(process.pid, signal.SIGINT)
            _, said = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 1, said
    assert "interrupted" in said
    with Log.open(log_path) as log:
        assert [row.status for row in log.episodes(EpisodeFilter())] == ["cancelled"] * 2


def _with_rounds(path):
    """Count the episodes that have written rounds."""
    if not path.exists():
        return 0
    try:
        with Log.open(path, read_only=True) as log:
            return sum(bool(log.rounds(row.id)) for row in log.episodes(EpisodeFilter()))
    except LogError:  # its tables are just being made
        return 0
