"""Measures what workers bring: the same episodes by one process and by several, in turn.

    OMP_NUM_THREADS=1 python benchmarks/workers.py --workers 2 --repeats 3

One process computes with one thread, as each worker does. Victims are trained before the clock
runs. The time of the workers counts their start, which is why episodes are long enough to be worth
it.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from arena.log.store import Log
from arena.runner.match import play
from arena.runner.preparation import prepare
from arena.scenario import Scenario, load
from arena.system.memory import keep_memory

SCENARIO = """
version = 1
name = "workers"
data = "digits"
seeds = [0, 1, 2, 3, 4, 5, 6, 7]
victim = { use = "conv-small", seed = 0 }
clone = { use = "conv-small" }
threat = { budget = 1000 }
attackers = [{ use = "dfme" }]
defenders = [{ name = "undefended" }]
"""


def seconds_of(scenario: Scenario, folder: Path, workers: int, number: int) -> float:
    """Play every episode afresh; returns the seconds it took."""
    with Log.open(folder / f"{workers}-{number}.db") as log:
        began = time.perf_counter()
        result = play(scenario, log=log, workers=workers)
        seconds = time.perf_counter() - began
    assert not result.failed
    return seconds


def main() -> None:
    """Measure and write JSON: seconds of each round, and the median of their ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--budget", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    keep_memory()  # as the command line does, and its workers
    alone, together = [], []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "workers.toml").write_text(SCENARIO)
        scenario = load(str(folder / "workers.toml"), [f"threat.budget={asked.budget}"])
        prepare(scenario)
        for number in range(asked.repeats):
            alone.append(seconds_of(scenario, folder, 1, number))
            together.append(seconds_of(scenario, folder, asked.workers, number))
    ratios = [one / several for one, several in zip(alone, together, strict=True)]
    found = {
        "machine": platform.machine(),
        "torch": torch.__version__,
        "workers": asked.workers,
        "episodes": len(scenario.plans()),
        "budget": asked.budget,
        "seconds_alone": [round(value, 2) for value in alone],
        "seconds_together": [round(value, 2) for value in together],
        "speed_up_median": round(median(ratios), 3),
        "speed_up_range": [round(min(ratios), 3), round(max(ratios), 3)],
    }
    json.dump(found, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
