"""Measures the log: rows written a second, and how fast ten thousand episodes come out again.

    python -m benchmarks.log_speed --json

The targets: 100,000 rows of rounds a second in the writer; 10,000 episodes listed by the command
line in under one second and in a pandas frame in under two. Everything is measured on a log of its
own in a temporary folder; of repetitions the fastest counts, since others use the machine too.
Beside seconds of the clock stand seconds of the processor, which others do not lengthen as much.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import insert

from arena.log.engine import transaction
from arena.log.rows import CheckpointRow, EpisodeRecord, OutcomeRow, RoundRow, RunRecord
from arena.log.store import Log, episode_id
from arena.log.tables import Episode

TARGETS = {
    "writer_rows_per_second": 100_000,
    "listing_seconds": 1.0,
    "listing_json_seconds": 1.0,
    "frame_seconds": 2.0,
}
"""At least so many rows, at most so many seconds."""

PLAN = {
    "rules": 1, "seed": 0, "data": {"use": "digits", "params": {}, "root": None},
    "victim": {"use": "resnet10-half", "params": {}, "recipe": {}, "seed": None},
    "clone": {"use": "conv-small", "params": {}}, "checkpoints": 10, "record": "digests",
    "threat": {"budget": 120_000, "labels": "soft", "latency": "none", "pool": None},
    "traffic": {"benign": 0.1, "ood_share": 0.0, "ood": None, "clients": 1},
    "attacker": {"use": "dfme", "params": {"batch": 128, "clone_rate": 0.1}, "code": ""},
    "defender": {"name": "dnf", "use": "static", "defence": [{"use": "dnf", "params": {}}]},
}  # fmt: skip
"""As long as the plan of an episode of the quick start."""

ROWS_OF_AN_EPISODE = 111
"""100 rounds, 10 checkpoints and its own."""


class Cost(NamedTuple):
    """Seconds that passed, and seconds of the processor, of children too."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> "Cost":
        """Read the clocks."""
        uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return cls(time.perf_counter(), sum(use.ru_utime + use.ru_stime for use in uses))

    def since(self, began: "Cost") -> "Cost":
        """Take an earlier reading off."""
        return Cost(self.wall - began.wall, self.cpu - began.cpu)


def measure(*, rounds: int = 200_000, episodes: int = 10_000, repeats: int = 3) -> dict[str, float]:
    """Measure the log.

    Args:
        rounds: rows that are written to measure the writer.
        episodes: how many the log holds that is listed and read.
        repeats: how often each is measured; the fastest counts.

    Returns:
        `writer_rows_per_second` rows of rounds, in flushes of 1000;
        `episode_rows_per_second` rows of all kinds of whole episodes, each begun, written in 100
        rounds, 10 checkpoints and 10 flushes, and finished: what a match really does;
        `listing_seconds` and `listing_json_seconds` of `arena episodes --limit 0`, the start of
        the program included; `frame_seconds` from the open log to the pandas frame, pandas
        loaded; each also by the processor's clock (`..._per_cpu_second`, `..._cpu_seconds`);
        `megabytes_per_1000_episodes` of the rows of episodes alone.
    """
    with tempfile.TemporaryDirectory(prefix="log-speed-") as folder:
        place = Path(folder)
        writer = _best(_write_rounds(place / f"w{n}.db", rounds) for n in range(repeats))
        count = max(1, rounds // 2000)
        whole = _best(_write_episodes(place / f"e{n}.db", count) for n in range(repeats))
        full = place / "full.db"
        _fill(full, episodes)
        words = [sys.executable, "-m", "arena.cli", "episodes", "--limit", "0", "--log", str(full)]
        _frame(full, episodes)  # loads pandas
        costs = {
            "listing": _best(_cost(lambda: _run(words)) for _ in range(repeats)),
            "listing_json": _best(_cost(lambda: _run([*words, "--json"])) for _ in range(repeats)),
            "frame": _best(_cost(lambda: _frame(full, episodes)) for _ in range(repeats)),
        }
        return {
            "rounds": rounds,
            "episodes": episodes,
            "writer_rows_per_second": round(rounds / writer.wall),
            "writer_rows_per_cpu_second": round(rounds / writer.cpu),
            "episode_rows_per_second": round(count * ROWS_OF_AN_EPISODE / whole.wall),
            "episode_rows_per_cpu_second": round(count * ROWS_OF_AN_EPISODE / whole.cpu),
            **{f"{name}_seconds": round(cost.wall, 3) for name, cost in costs.items()},
            **{f"{name}_cpu_seconds": round(cost.cpu, 3) for name, cost in costs.items()},
            "megabytes_per_1000_episodes": full.stat().st_size / 1e3 / episodes,
        }


def _round(number: int) -> RoundRow:
    return RoundRow(
        bucket=number,
        first_round=number * 4,
        rounds=4,
        attack_answered=1024,
        benign_answered=114,
        queries_used=1024 * (number + 1),
        attack_exits=(700, 200, 100, 24),
        benign_exits=(4, 10, 20, 80),
        attack_macs=3 * 10**9,
        benign_macs=10**9,
        attack_seconds=0.25,
        benign_seconds=0.5,
        benign_correct=110,
        query_digest="0123456789abcdef",
        answer_digest="fedcba9876543210",
    )


def _record(seed: int) -> EpisodeRecord:
    return EpisodeRecord(
        scenario_name="speed",
        plan_hash=f"{seed:016x}",
        plan=PLAN | {"seed": seed},
        seed=seed,
        attacker="dfme",
        attacker_params={"batch": 128},
        defender="dnf",
        defender_params={"defence": ["dnf"]},
        victim="resnet10-half",
        clone="conv-small",
        data="digits",
        versions={"torch": "2.6", "numpy": "2.0", "python": "3.11"},
        device="cpu",
    )


_OUTCOME = OutcomeRow(
    budget=120_000, queries_used=120_000, clone_accuracy=0.5, clone_fidelity=0.5,
    victim_accuracy=0.95, served_accuracy=0.93, attack_compute_share=0.4, full_macs=10**6,
)  # fmt: skip


def _write_rounds(path: Path, count: int) -> Cost:
    """Write rows of rounds in flushes of 1000."""
    rows = [_round(number) for number in range(count)]
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="log_speed", scenario_name="speed"))
        writer = log.begin_episode(run, _record(0))
        began = Cost.now()
        for number, row in enumerate(rows, start=1):
            writer.round(row)
            if number % 1000 == 0:
                writer.flush()
        writer.flush()
        return Cost.now().since(began)


def _write_episodes(path: Path, count: int) -> Cost:
    """Write whole episodes as a match does."""
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="log_speed", scenario_name="speed"))
        began = Cost.now()
        for seed in range(count):
            writer = log.begin_episode(run, _record(seed))
            for point in range(10):
                for number in range(10):
                    writer.round(_round(10 * point + number))
                writer.checkpoint(
                    CheckpointRow(index=point, queries_used=12_000 * point, wall_seconds=1.0)
                )
                writer.flush()
            writer.finish("success", _OUTCOME)
        return Cost.now().since(began)


def _fill(path: Path, count: int) -> None:
    """Put so many finished episodes into a log, in one transaction."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="log_speed", scenario_name="speed"))
        rows = [
            vars(_record(seed)) | vars(_OUTCOME) | {
                "id": episode_id(run, f"{seed:016x}"), "run_id": run, "status": "success",
                "started": start + timedelta(seconds=seed),
                "finished": start + timedelta(seconds=seed + 60), "wall_seconds": 60.0,
                "pid": os.getpid(), "host": platform.node(), "process_started": 0.0,
            }
            for seed in range(count)
        ]  # fmt: skip
        with transaction(log.engine) as connection:
            connection.execute(insert(Episode.table()), rows)


def _best(costs: Iterable[Cost]) -> Cost:
    """Take the least of both clocks."""
    walls, cpus = zip(*costs, strict=True)
    return Cost(min(walls), min(cpus))


def _cost(work: Callable[[], None]) -> Cost:
    began = Cost.now()
    work()
    return Cost.now().since(began)


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _frame(path: Path, count: int) -> None:
    from arena.analysis import frames as analysis

    with Log.open(path, read_only=True) as log:
        assert len(analysis.episodes(log)) == count


def main() -> None:
    """Measure, and write what came out and what was aimed at."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="write JSON, and nothing else")
    parser.add_argument("--rounds", type=int, default=200_000)
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    wanted = parser.parse_args()
    found = measure(rounds=wanted.rounds, episodes=wanted.episodes, repeats=wanted.repeats)
    if wanted.json:
        print(json.dumps({"measured": found, "targets": TARGETS}, indent=2))
        return
    for name, value in found.items():
        target = f"   (target {TARGETS[name]:,})" if name in TARGETS else ""
        print(f"{name:<30}{value:>14,.6g}{target}")


if __name__ == "__main__":
    main()
