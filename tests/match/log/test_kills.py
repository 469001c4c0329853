"""Kills and interrupts: what was flushed is there, nothing is wrong, and the set is completed.

All is done by the command line and by reading the file while it is written, so that this holds
however a run goes on with what was interrupted.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest
from typer.testing import CliRunner

from arena.cli.app import app

SEEDS = 18
LONG = {
    "name": "killed",
    "record": "queries",
    "seeds": list(range(SEEDS)),
    "checkpoints": 20,
    "victim": {"seed": 0},
    "threat": {"budget": 40_000},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


class Table:
    """A scenario, a log, and the command line."""

    def __init__(self, scenario, name, folder=None):
        self.scenario, self.log = scenario, (folder or scenario.parent) / f"{name}.db"

    def start(self, *words):
        command = [sys.executable, "-m", "arena.cli", *map(str, words), "--log", str(self.log)]
        return subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip

    def call(self, *words):
        # what is not killed runs in this process: starting one costs more than all that it does
        told = CliRunner().invoke(app, [*map(str, words), "--log", str(self.log)])
        assert told.exit_code == 0, (words, told.output, told.exception)
        return told.stdout

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


class Disk:
    """A place for a log that can be made full: a file system in memory, or else a quota.

    Where none can be mounted, a limit on the size of files stands for it, which the kernel holds a
    process to: writes fail from there on.
    """

    ROOM = "2g"

    def __init__(self, place, mount):
        self.place = place
        words = [mount or "", "-t", "tmpfs", "-o", f"size={self.ROOM}", "tmpfs", str(place)]
        self.mounted = bool(
            mount
            and not os.geteuid()
            and not subprocess.run(words, capture_output=True, check=False).returncode
        )

    def fill(self, process):
        """Let nothing more be written."""
        if self.mounted:
            while not self._resize_to_what_is_used():  # more was written meanwhile
                pass
        else:
            for pid in (process.pid, *children_of(process.pid)):
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def make_room(self):
        if self.mounted:
            assert self._resize(self.ROOM)

    def close(self):
        if self.mounted:
            subprocess.run(["umount", str(self.place)], check=True)

    def _resize_to_what_is_used(self):
        disk = os.statvfs(self.place)
        used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
        return self._resize(f"{used // 1024}k")

    def _resize(self, size):
        words = ["mount", "-o", f"remount,size={size}", str(self.place)]
        return not subprocess.run(words, capture_output=True, check=False).returncode


def children_of(pid):
    """List the processes that a process started, and those that they did."""
    told = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, check=False
    )
    found = [int(word) for word in told.stdout.split()]
    return [one for child in found for one in (child, *children_of(child))]


@pytest.fixture
def disk(tmp_path, request):
    place = tmp_path / "disk"
    place.mkdir()
    made = Disk(place, shutil.which("mount") if request.param == "mounted" else None)
    yield made
    made.close()


def end_at_some_moment(table, chance, way, disk):
    """Play, and end all processes: by SIGKILL, by SIGTERM, or since the disk is full.

    Returns:
        what could be seen in the log right before, and whether there was something to end.
    """
    process = table.run("--workers", str(chance.choice((1, 1, 2))), "--save-every", "0.5")
    try:
        before = table.flushed()
        if way == "kill" and chance.random() < 0.25:  # while it starts
            time.sleep(chance.uniform(0, 4))
        else:
            while process.poll() is None and len(table.flushed()) == len(before):
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 1.5))
        seen = table.flushed()
        alive = process.poll() is None
        if way == "term":
            os.killpg(process.pid, signal.SIGTERM)
        elif way == "full":
            disk.fill(process)
        if way != "kill":
            _, errors = process.communicate(timeout=120)
            assert process.returncode == {"term": 143, "full": 1}[way] or not alive, errors
            assert "Traceback" not in errors
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        disk.make_room()
    return seen, alive


def sound(table):
    told = json.loads(table.call("log", "check", "--json"))
    assert [one for one in told["findings"] if one["kind"] == "fault"] == []
    return told["sound"]


def outcomes(table):
    rows = json.loads(table.call("episodes", "--limit", "0", "--status", "success", "--json"))
    return sorted((row["seed"], row["query_digest"], row["answer_digest"], row["clone_accuracy"],
                   row["served_accuracy"]) for row in rows)  # fmt: skip


FEW = ("kill", "kill", "term", "term", "full", "full")
MANY = ("kill",) * 20 + ("term",) * 5 + ("full",) * 5


@pytest.mark.parametrize(
    ("ways", "seeds", "disk"),
    [(FEW, 6, "mounted"), (FEW, 6, "quota"), (MANY, SEEDS, "mounted")],
    ids=["six", "six with a quota", "thirty"],
    indirect=["disk"],
)
def test_random_ends_lose_nothing_that_was_flushed_and_the_next_run_completes(
    tiny_file, disk, ways, seeds
):
    chance = random.Random(7)
    scenario = tiny_file(**LONG | {"seeds": list(range(seeds))})
    table = Table(scenario, "killed", disk.place)
    flushed_at_end = 0
    for way in chance.sample(ways, len(ways)):
        seen, alive = end_at_some_moment(table, chance, way, disk)
        assert alive, "the set was complete before the last one; it needs more seeds"
        after = table.flushed()
        assert {key: after.get(key) for key in seen} == seen
        flushed_at_end += bool(seen)
        if table.log.exists() and after:
            assert sound(table)
    assert flushed_at_end >= len(ways) // 2
    told = json.loads(table.call("run", table.scenario, "--quiet", "--no-figure", "--json"))
    (found,) = told["scenarios"]
    assert [row["status"] for row in found["episodes"]] == ["success"] * seeds
    assert sound(table)
    # and what came of it is what comes without
    whole = Table(scenario, "whole", disk.place)
    whole.call("run", whole.scenario, "--quiet", "--no-figure")
    assert outcomes(table) == outcomes(whole)
    assert len(outcomes(whole)) == seeds


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


def test_a_sweep_that_is_killed_five_times_ends_as_an_unbroken_one(tiny_file):
    chance = random.Random(3)
    over = {"threat.budget": list(range(20, 70)), "clone.use": ["mlp-small", "conv-small"]}
    scenario = tiny_file(seeds=[0, 1], sweep={"over": over})
    broken, whole = Table(scenario, "broken"), Table(scenario, "whole")
    for _ in range(5):
        wanted, process = len(played_of(broken)) + chance.randint(5, 30), broken.run("-j", "2")
        while process.poll() is None and len(played_of(broken)) < wanted:
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert 0 < len(played_of(broken)) < 200
    for table in (broken, whole):
        table.call("run", scenario, "--quiet", "--no-figure")
        assert sound(table)
    assert len(played_of(whole)) == 200
    assert played_of(broken) == played_of(whole)


def played_of(table):
    """Read what came of the episodes that ended, and what they are, by their plans."""
    if not table.log.exists():
        return {}
    connection = sqlite3.connect(f"file:{table.log}?mode=ro", uri=True, timeout=30)
    try:
        rows = connection.execute(
            "SELECT plan_hash, seed, budget, clone, clone_accuracy, clone_fidelity, "
            "served_accuracy, query_digest, answer_digest FROM episode WHERE status = 'success'"
        ).fetchall()
    except sqlite3.OperationalError:  # the tables are being made
        return {}
    finally:
        connection.close()
    return {row[0]: row[1:] for row in rows}
