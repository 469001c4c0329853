"""Rows written to a log a second, and how fast ten thousand episodes are read again.

Everything is measured on a log of its own in a temporary folder. Of repetitions the fastest counts,
because others use the machine too.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from arena.bench.full_log import fill
from arena.bench.timing import Line, now
from arena.log.merging import merge
from arena.log.outcome import OutcomeRow
from arena.log.rows import CheckpointRow, EpisodeRecord, RoundRow, RunRecord
from arena.log.store import Log

GROUP = "log"
ROWS_TARGET = 100_000
"""Rows of rounds that the writer should write in a second."""

LISTING_TARGET, FRAME_TARGET = 1.0, 2.0
"""Seconds in which the command line should list the episodes, and a pandas frame hold them."""

CHECK_TARGET, REPORT_TARGET, MERGE_TARGET = 5.0, 10.0, 10.0
"""Seconds in which they should be checked, told in a report, and merged into another log."""

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
        program included. `check` and `report`: likewise, `arena log check` and `arena report`; its
        figures take as long for few episodes. `frame`: from the open log to the pandas frame,
        pandas loaded. `merge`: into an empty log. `megabytes per 1000 episodes`: of 14 rows each.
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
        fill(full, episodes)
        listing, page = ("episodes", "--limit", "0"), ("report", "-o", str(place / "report.html"))
        _frame(full, episodes)  # loads pandas
        size = full.stat().st_size / 1e3 / episodes
        return [
            rows("writer", rounds, writer, ROWS_TARGET),
            rows("episode", count * ROWS_OF_AN_EPISODE, whole),
            seconds("listing", lambda: _arena(full, *listing), LISTING_TARGET),
            seconds("listing json", lambda: _arena(full, *listing, "--json"), LISTING_TARGET),
            seconds("frame", lambda: _frame(full, episodes), FRAME_TARGET),
            seconds("check", lambda: _arena(full, "log", "check"), CHECK_TARGET),
            seconds("report", lambda: _arena(full, *page), REPORT_TARGET),
            seconds("merge", lambda: _merge(full), MERGE_TARGET),
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


def _seconds(work: Callable[[], None]) -> float:
    began = now()
    work()
    return now() - began


def _arena(log: Path, *words: str) -> None:
    command = [sys.executable, "-m", "arena.cli", *words, "--log", str(log)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _frame(path: Path, count: int) -> None:
    from arena.analysis import frames

    with Log.open(path, read_only=True) as log:
        assert len(frames.episodes(log)) == count


def _merge(origin: Path) -> None:
    """Merge a log into an empty one."""
    target = origin.with_name("merged.db")
    target.unlink(missing_ok=True)
    with Log.open(origin, read_only=True) as log, Log.open(target) as empty:
        merge(empty, log)
