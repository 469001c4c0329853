"""How long the command line takes to answer."""

import subprocess
import sys

from arena.bench.timing import Line, interleave, spread

GROUP = "start-up"
TARGET = 0.5


def measure(*, rounds: int = 7) -> list[Line]:
    """Measure `arena --help` in a fresh process, beside a Python that does nothing."""

    def call(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    runs = {
        "python": lambda: call("-c", "pass"),
        "help": lambda: call("-m", "arena.cli", "--help"),
    }
    samples = interleave(runs, rounds=rounds)
    shown, bare = spread(samples["help"]), spread(samples["python"])
    note = f"a Python that does nothing: {bare.median:.2f} s"
    return [
        Line(GROUP, "arena --help", shown.median, "s", shown.low, shown.high,
             target=TARGET, at_least=False, note=note)
    ]  # fmt: skip
