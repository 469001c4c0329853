"""Rows written to a log a second, and how fast ten thousand episodes are read again.

Everything is measured on a log of its own in a temporary folder. Of repetitions the fastest counts,
because others use the machine too.
"""

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import insert

from arena.bench.timing import Line, now
from arena.log.engine import transaction
from arena.log.rows import CheckpointRow, EpisodeRecord, OutcomeRow, RoundRow, RunRecord
from arena.log.store import Log, episode_id
from arena.log.tables import Episode

GROUP = "log"
ROWS_TARGET = 100_000
"""Rows of rounds that the writer should write in a second."""

LISTING_TARGET, FRAME_TARGET = 1.0, 2.0
"""Seconds in which the command line should list the episodes, and a pandas frame hold them."""

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


def measure(*, rounds: int = 200_000, episodes: int = 10_000, repeats: int = 3) -> list[Line]:
    """Measure the log by the clock in use.

    Args:
        rounds: rows that are written to measure the writer.
        episodes: how many the log holds that is listed and read.
        repeats: how often each is measured; the fastest counts.

    Returns:
        `writer`: rows of rounds a second, in flushes of 1000. `episode`: rows of all kinds of whole
        episodes, each begun, written in 100 rounds, 10 checkpoints and 10 flushes, and finished, as
        a match does. `listing` and `listing json`: `arena episodes --limit 0`, the start of the
        program included. `frame`: from the open log to the pandas frame, pandas loaded.
        `megabytes per 1000 episodes`: of the rows of episodes alone.
    """
    note = f"best of {repeats}; {episodes} episodes listed"

    def rows(name: str, count: int, seconds: float, target: float | None = None) -> Line:
        return Line(GROUP, name, count / seconds, "rows/s", target=target, note=note)

    def seconds(name: str, work: Callable[[], None], target: float) -> Line:
        best = min(_seconds(work) for _ in range(repeats))
        return Line(GROUP, name, best, "s", target=target, at_least=False, note=note)

    with tempfile.TemporaryDirectory(prefix="log-speed-") as folder:
        place = Path(folder)
        writer = min(_write_rounds(place / f"w{n}.db", rounds) for n in range(repeats))
        count = max(1, rounds // 2000)
        whole = min(_write_episodes(place / f"e{n}.db", count) for n in range(repeats))
        full = place / "full.db"
        _fill(full, episodes)
        words = [sys.executable, "-m", "arena.cli", "episodes", "--limit", "0", "--log", str(full)]
        _frame(full, episodes)  # loads pandas
        size = full.stat().st_size / 1e3 / episodes
        return [
            rows("writer", rounds, writer, ROWS_TARGET),
            rows("episode", count * ROWS_OF_AN_EPISODE, whole),
            seconds("listing", lambda: _run(words), LISTING_TARGET),
            seconds("listing json", lambda: _run([*words, "--json"]), LISTING_TARGET),
            seconds("frame", lambda: _frame(full, episodes), FRAME_TARGET),
            Line(GROUP, "megabytes per 1000 episodes", size, "MB", note=note),
        ]


def _round(number: int) -> RoundRow:
    return RoundRow(
        bucket=number,
        first_round=number * 4,
        rounds=4,
        attack_answered=1024,
        benign_answered=114,
        queries_used=1024 * (number + 1),
        attack_exits=((700, 200, 100, 24),),
        benign_exits=((4, 10, 20, 80),),
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
        budget=120_000,
        versions={"torch": "2.6", "numpy": "2.0", "python": "3.11"},
        device="cpu",
    )


_OUTCOME = OutcomeRow(
    queries_used=120_000, clone_accuracy=0.5, clone_fidelity=0.5,
    victim_accuracy=0.95, served_accuracy=0.93, attack_compute_share=0.4, full_macs=10**6,
)  # fmt: skip


def _write_rounds(path: Path, count: int) -> float:
    """Write rows of rounds in flushes of 1000."""
    rows = [_round(number) for number in range(count)]
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="log_speed", scenario_name="speed"))
        writer = log.begin_episode(run, _record(0))
        began = now()
        for number, row in enumerate(rows, start=1):
            writer.round(row)
            if number % 1000 == 0:
                writer.flush()
        writer.flush()
        return now() - began


def _write_episodes(path: Path, count: int) -> float:
    """Write whole episodes as a match does."""
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="log_speed", scenario_name="speed"))
        began = now()
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
        return now() - began


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
                "pid": os.getpid(), "host": platform.node(), "process_started": "",
                "heartbeat": start + timedelta(seconds=seed + 60),
            }
            for seed in range(count)
        ]  # fmt: skip
        with transaction(log.engine) as connection:
            connection.execute(insert(Episode.table()), rows)


def _seconds(work: Callable[[], None]) -> float:
    began = now()
    work()
    return now() - began


def _run(words: list[str]) -> None:
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def _frame(path: Path, count: int) -> None:
    from arena.analysis import frames

    with Log.open(path, read_only=True) as log:
        assert len(frames.episodes(log)) == count
