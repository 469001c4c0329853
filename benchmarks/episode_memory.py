"""Measures what an episode's memory and log grow to: with a victim that answers at once.

    python benchmarks/episode_memory.py --budget 20_000_000

Everything but the victim's arithmetic is real: scenario, world, game, benign traffic, referee,
recorder, saves and log. The attacker asks uniform noise and learns nothing, because what
an attacker keeps is its own affair. Memory is that of the whole process (resident set), read every
hundredth of the budget. Its growth is that from the median over 10 to 30 % of the budget to the one
over the last fifth; for a moment it is higher, when a checkpoint is scored or a save is written.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
import torch

from agents.base import Attacker, Kit
from arena.log.store import Log
from arena.registry import players
from arena.runner import recorder
from arena.runner.match import play
from arena.runner.progress import Progress, Watcher
from arena.runner.saves.schedule import Saving
from arena.scenario import load
from envs.oracle import Oracle
from envs.victim.victim import Victim, VictimAnswer

SCENARIO = """
version = 1
name = "episode-memory"
data = "digits"
seeds = [0]
victim = { use = "conv-small", recipe = { epochs = 1 } }
clone = { use = "mlp-small" }
threat = { budget = 1000 }
traffic = { benign = 0.1 }
defenders = [{ name = "undefended" }]
"""
MEGABYTE = 2**20


class Asker(Attacker):
    """Asks uniform noise, a batch at a time, and learns nothing.

    Args:
        batch: images per request.
    """

    def __init__(self, *, batch: int = 10_000) -> None:
        self._batch = batch

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Spend the budget."""
        self.clone = kit.new_clone().eval()
        self.resume(oracle, kit)

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Spend what is left of the budget."""
        while oracle.remaining:
            kit.safe_point()
            count = min(self._batch, oracle.remaining)
            oracle.query(torch.rand(count, *oracle.threat.image_shape, generator=kit.generator))


class Meter(Watcher):
    """Reads the process's memory along the budget."""

    def __init__(self) -> None:
        self._process, self._next = psutil.Process(), 0.0
        self.readings: list[tuple[float, float]] = []

    def progress(self, title: str, progress: Progress) -> None:
        """Read, if it is time."""
        share = progress.used / progress.budget
        if share >= self._next:
            self._next += 0.01
            self.readings.append((share, self._process.memory_info().rss / MEGABYTE))


def measure(budget: int, *, batch: int) -> dict[str, float]:
    """Play one episode; returns seconds, and megabytes of memory, log and files beside it."""

    def at_once(self: Victim, images: torch.Tensor, **options: object) -> VictimAnswer:
        count = len(images)
        share = torch.full((count, self.num_classes), 1 / self.num_classes)
        return VictimAnswer(share, torch.zeros(count, dtype=torch.int64))

    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "memory.toml")
        file.write_text(f'{SCENARIO}\n[[attackers]]\nname = "asker"\nuse = "{__file__}:Asker"\n'
                        f"params = {{ batch = {batch} }}\n")  # fmt: skip
        scenario = load(str(file), [f"threat.budget={budget}"])
        players.attackers.find(f"{__file__}:Asker")
        Victim.answer = at_once  # type: ignore[method-assign]
        recorder.WATCH_SECONDS = 0.0  # look after every round, however quick they are
        began = time.perf_counter()
        with Log.open(Path(folder, "arena.db")) as log:
            saving = Saving(seconds=1.0)
            (row,) = play(scenario, log=log, watcher=meter, saving=saving).episodes
            seconds = time.perf_counter() - began
            rows = len(log.rounds(row.id)) + len(log.checkpoints(row.id))
        assert row.status == "success", row.error
        assert row.queries_used == budget
        size = sum(path.stat().st_size for path in Path(folder).glob("arena.db*") if path.is_file())
        beside = Path(folder, "arena.db.artifacts")
        files = sum(path.stat().st_size for path in beside.rglob("*") if path.is_file())
    early = median(megabytes for share, megabytes in meter.readings if 0.1 <= share < 0.3)
    late = median(megabytes for share, megabytes in meter.readings if share >= 0.8)
    return {
        "queries": float(budget),
        "seconds": round(seconds, 2),
        "queries_per_second": round(budget / seconds),
        "memory_early_mb": round(early, 1),
        "memory_late_mb": round(late, 1),
        "memory_growth_mb": round(late - early, 1),
        "memory_peak_mb": round(max(megabytes for _, megabytes in meter.readings), 1),
        "log_mb": round(size / MEGABYTE, 3),
        "log_rows": float(rows),
        "files_mb": round(files / MEGABYTE, 3),
    }


def main() -> None:
    """Measure and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", type=int, default=2_000_000)
    parser.add_argument("--batch", type=int, default=10_000)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    json.dump(measure(asked.budget, batch=asked.batch), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
