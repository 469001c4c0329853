"""The thread that gives signs of life keeps no process from ending."""

import subprocess
import sys

SCRIPT = """
import sys
from arena.log import heartbeat

heartbeat.BEAT_SECONDS = 0.0  # the thread asks all the time whether it is stopped

class Owner:
    def beat(self):
        pass

owner = sys.modules["kept"] = Owner()  # goes when the interpreter does
owner.heart = heartbeat.Heartbeat(owner)
"""


def test_an_owner_that_goes_with_the_interpreter_lets_it_end():
    command = [sys.executable, "-c", SCRIPT]
    running = [subprocess.Popen(command) for _ in range(6)]
    try:
        assert [child.wait(timeout=60) for child in running] == [0] * 6
    finally:
        for child in running:
            child.kill()
            child.wait()
