"""Freed memory stays with the process, where the C library can be told so."""

import gc
import os
import platform
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from arena.cli.app import app

glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is not glibc, which has mallopt"
)

FAULTS = """
import resource
from arena.system.memory import keep_memory

print(keep_memory())

def play():
    blocks = [b"1" * 2**24 for _ in range(8)]

play()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    play()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(code: str, **environment: str) -> list[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    clean.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    return done.stdout.split()


@glibc
def test_memory_that_was_freed_is_used_again_without_a_fault():
    told, faults = _run(FAULTS)
    assert told == "True"
    assert int(faults) < 2_000  # of 327,680 pages written


@glibc
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_TRIM_THRESHOLD_", "131072"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=131072"),
    ],
)
def test_what_the_environment_says_about_memory_stands(name, value):
    told, faults = _run(FAULTS, **{name: value})
    assert told == "False"
    assert int(faults) > 100_000


@pytest.mark.slow
@glibc
def test_the_command_line_and_its_workers_keep_their_memory():
    spy = """
import arena.system.memory
arena.system.memory.keep_memory = lambda: print("kept")
import sys
{}
"""
    main = 'sys.argv = ["arena", "--version"]\nfrom arena.cli import main\nmain()'
    assert _run(spy.format(main))[:1] == ["kept"]
    code = "from arena.runner.workers.worker import Worker\nWorker(0, None, print)"
    told = subprocess.run(
        [sys.executable, "-c", spy.format(code)], capture_output=True, text=True, check=False
    )
    assert told.stdout.split()[:1] == ["kept"]


def test_a_command_collects_garbage_though_its_start_did_not():
    gc.disable()
    try:
        assert CliRunner().invoke(app, ["doctor", "--help"]).exit_code == 0
        assert gc.isenabled()
    finally:
        gc.enable()
