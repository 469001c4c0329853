"""Kills and interrupts: what was flushed is there, nothing is wrong, and the set is completed.

Everything is done as a user does it, by the command line and by reading the file while it is
written, so that this holds whichever way a run goes on with what was interrupted.
"""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

SEEDS = 12
LONG = {
    "name": "killed",
    "record": "queries",
    "seeds": list(range(SEEDS)),
    "checkpoints": 20,
    "victim": {"seed": 0},
    "threat": {"budget": 100_000},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Table:
    """A scenario, a log, and the command line."""

    def __init__(self, scenario, name):
        self.scenario, self.log = scenario, scenario.with_name(f"{name}.db")

    def start(self, *words):
        command = [sys.executable, "-m", "arena.cli", *map(str, words), "--log", str(self.log)]
        return subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def call(self, *words):
        process = self.start(*words)
        output, errors = process.communicate()
        assert process.returncode == 0, (words, output, errors)
        return output

    def run(self, *words):
        return self.start("run", self.scenario, "--quiet", "--no-figure", *words)

    def flushed(self):
        """Read the checkpoints that anybody can see now: all columns, by episode and number."""
        if not self.log.exists():
            return {}
        connection = sqlite3.connect(f"file:{self.log}?mode=ro", uri=True, timeout=30)
        try:
            rows = connection.execute("SELECT * FROM checkpoint").fetchall()
        except sqlite3.OperationalError:  # the tables are being made
            return {}
        finally:
            connection.close()
        return {row[:2]: row[2:] for row in rows}


def kill_at_some_moment(table, chance):
    """Play, and kill all processes.

    Returns:
        what could be seen in the log right before, and whether there was something to kill.
    """
    process = table.run("--workers", str(chance.choice((1, 1, 2))))
    try:
        before = table.flushed()
        if chance.random() < 0.25:  # while it starts
            time.sleep(chance.uniform(0, 4))
        else:
            while process.poll() is None and len(table.flushed()) == len(before):
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 1.5))
        seen = table.flushed()
        alive = process.poll() is None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    return seen, alive


def sound(table):
    told = json.loads(table.call("log", "check", "--json"))
    assert [one for one in told["findings"] if one["kind"] == "fault"] == []
    return told["sound"]


def outcomes(table):
    rows = json.loads(table.call("episodes", "--limit", "0", "--status", "success", "--json"))
    return sorted((row["seed"], row["query_digest"], row["answer_digest"], row["clone_accuracy"],
                   row["served_accuracy"]) for row in rows)  # fmt: skip


def test_twenty_random_kills_lose_nothing_that_was_flushed_and_the_next_run_completes(tiny_file):
    table, chance = Table(tiny_file(**LONG), "killed"), random.Random(7)
    flushed_at_kill = 0
    for _ in range(20):
        seen, alive = kill_at_some_moment(table, chance)
        assert alive, "the set was complete before the last kill; it needs more seeds"
        after = table.flushed()
        assert {key: after.get(key) for key in seen} == seen
        flushed_at_kill += bool(seen)
        if table.log.exists() and after:
            assert sound(table)
    assert flushed_at_kill >= 10
    told = json.loads(table.call("run", table.scenario, "--quiet", "--no-figure", "--json"))
    (scenario,) = told["scenarios"]
    assert [row["status"] for row in scenario["episodes"]] == ["success"] * SEEDS
    assert sound(table)
    # and what came of it is what comes without a kill
    whole = Table(tiny_file(**LONG), "whole")
    whole.call("run", whole.scenario, "--quiet", "--no-figure")
    assert outcomes(table) == outcomes(whole)
    assert len(outcomes(whole)) == SEEDS


def test_an_interrupt_ends_in_one_line_keeps_what_was_measured_and_the_next_run_completes(
    tiny_file,
):
    table = Table(tiny_file(**LONG), "interrupted")
    words = ("--seeds", "0,1")
    process = table.run(*words)
    deadline = time.monotonic() + 300
    while len(table.flushed()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    seen = table.flushed()
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert (
        "interrupted with 2 episodes left; the same command goes on; the log has what was measured"
        in errors.splitlines()[-1]
    )
    assert "Traceback" not in errors
    after = table.flushed()
    assert {key: after.get(key) for key in seen} == seen
    listed = json.loads(table.call("episodes", "--status", "cancelled", "--json"))
    assert [row["error"] for row in listed] == ["interrupted by the user"]
    assert sound(table)
    table.call("run", table.scenario, "--quiet", "--no-figure", *words)
    assert [row[0] for row in outcomes(table)] == [0, 1]
    assert sound(table)
