"""What an isolated attacker prints is shown, all of it, and leaves nothing behind."""

import os
import threading
import time

import pytest

from arena.isolation import launch

PLAYER = """
import os, sys, time

from agents.attackers.noise import Noise

class Loud(Noise):
    "Prints while it is imported."

{prints}
"""


@pytest.fixture
def describe(tmp_path):
    """Let a process import a player of so many lines, and end it when it has told of it."""

    def run(prints):
        (tmp_path / "loud.py").write_text(PLAYER.format(prints=prints))
        use = f"{tmp_path}/loud.py:Loud"
        started = launch.start("describe", [use])
        try:
            started.channel.receive(60)
            started.channel.send("describe", name="loud", attacker=[use, {}], wrappers=[])
            assert started.channel.receive(60)["faults"] == []
        finally:
            launch.end(started)

    return run


def copying():
    return [one for one in threading.enumerate() if one.name == "arena-isolated-output"]


def test_all_it_prints_is_shown_on_standard_error_to_the_last_line(describe, capfd):
    describe('print("x" * 3_000_000, flush=True); os.write(2, b"the last")')
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err == "x" * 3_000_000 + "\nthe last"


def test_it_prints_on_where_nobody_can_read_it(describe):
    before = os.dup(2)
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 2)
    try:
        describe('print("x" * 3_000_000)')
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(writer)


@pytest.mark.parametrize("after", ["", "print('x' * 1000, flush=True)"])
def test_a_process_that_it_leaves_behind_keeps_neither_thread_nor_descriptor(describe, after):
    descriptors = len(os.listdir("/proc/self/fd"))
    began = time.monotonic()
    describe(f"""
if os.fork() == 0:
    if os.fork() == 0:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            time.sleep(0.01)
            {after}
    os._exit(0)
os.wait()
print("a line", flush=True)
""")
    assert not copying()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert time.monotonic() - began < 19
