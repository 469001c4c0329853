"""Measures the log: rows written a second, and how fast ten thousand episodes come out again.

    python -m benchmarks.log_speed --json

The targets: 100,000 rows of rounds a second in the writer; 10,000 episodes listed by the command
line in under one second and in a pandas frame in under two. Everything is measured on a log of its
own in a temporary folder; of repetitions the fastest counts, since others use the machine too.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

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
        the program included; `frame_seconds` from the open log to the pandas frame;
        `megabytes_per_1000_episodes` of the file.
    """
    with tempfile.TemporaryDirectory(prefix="log-speed-") as folder:
        place = Path(folder)
        writer = max(_write_rounds(place / f"w{n}.db", rounds) for n in range(repeats))
        whole = max(_write_episodes(place / f"e{n}.db", rounds // 2000) for n in range(repeats))
        full = place / "full.db"
        _fill(full, episodes)
        words = [sys.executable, "-m", "arena.cli", "episodes", "--limit", "0", "--log", str(full)]
        return {
            "rounds": rounds,
            "episodes": episodes,
            "writer_rows_per_second": round(writer),
            "episode_rows_per_second": round(whole),
            "listing_seconds": _fastest(repeats, lambda: _run(words)),
            "listing_json_seconds": _fastest(repeats, lambda: _run([*words, "--json"])),
            "frame_seconds": _fastest(repeats, lambda: _frame(full, episodes)),
            "megabytes_per_1000_episodes": full.stat().st_size / 1e6 / episodes * 1000,
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


def _write_rounds(path: Path, count: int) -> float:
    """Write rows of rounds in flushes of 1000; returns rows a second."""
    rows = [_round(number) for number in range(count)]
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="log_speed", scenario_name="speed"))
        writer = log.begin_episode(run, _record(0))
        began = time.perf_counter()
        for number, row in enumerate(rows, start=1):
            writer.round(row)
            if number % 1000 == 0:
                writer.flush()
        writer.flush()
        return count / (time.perf_counter() - began)


def _write_episodes(path: Path, count: int) -> float:
    """Write whole episodes as a match does; returns rows a second, of all kinds."""
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="log_speed", scenario_name="speed"))
        began = time.perf_counter()
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
        return count * 111 / (time.perf_counter() - began)


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


def _fastest(repeats: int, work: Callable[[], None]) -> float:
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(min(times), 3)


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _frame(path: Path, count: int) -> None:
    from arena import analysis

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
        print(f"{name:<30}{value:>14,}{target}")


if __name__ == "__main__":
    main()
