"""Plays a scenario: its episodes one after the other, skipping what was played before."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch

from arena.lessons import taught, waves
from arena.log.rows import EpisodeRow, RunRecord
from arena.log.store import Log
from arena.playing import play_one
from arena.provenance import device_name, git_state, versions
from arena.saving.resuming import outlook
from arena.saving.saver import USUAL, Saving
from arena.saving.shelf import Shelf
from arena.scenario import Scenario
from arena.tasks import Task
from arena.threads import THREADS
from arena.watch import Watcher
from arena.workers import play_in_workers
from arena.world import World
from envs.errors import ArenaError


@dataclass(frozen=True)
class MatchResult:
    """What a scenario came to.

    Attributes:
        episodes: rows of the log, in the scenario's order, skipped ones included.
        skipped: how many had been played before.
        interrupted: whether the user broke off; what was measured is in the log.
    """

    episodes: list[EpisodeRow] = field(default_factory=list)
    skipped: int = 0
    interrupted: bool = False

    @property
    def failed(self) -> bool:
        """Whether an episode ended other than by success."""
        return self.interrupted or any(row.status != "success" for row in self.episodes)


def play(
    scenario: Scenario,
    *,
    log: Log,
    watcher: Watcher | None = None,
    device: str = "cpu",
    fresh: bool = False,
    workers: int = 1,
    command: str = "arena.match.play",
    saving: Saving = USUAL,
) -> MatchResult:
    """Play every episode of a scenario that the log does not hold yet.

    Args:
        scenario: what to play.
        log: where it is written, and what was played before.
        watcher: looks on.
        device: "cpu", "cuda", "cuda:1".
        fresh: play again what was played before, and what was broken off from its beginning.
        workers: processes that play at once, each with one thread.
        command: how the user would do this again.
        saving: how episodes are saved, and whether broken-off ones are gone on with.

    Raises:
        ArenaError: nothing could be prepared, or the log cannot be written. A fault inside an
            episode ends that episode alone and is in its row.
    """
    watcher = watcher or Watcher()
    place = pick_device(device)
    plans = scenario.plans()
    rows: dict[int, EpisodeRow] = {}
    tasks: list[Task] = []
    for index, plan in enumerate(plans):
        known = None if fresh else log.finished(plan.hash)
        if known is None:
            tasks.append(Task(index, len(plans), plan))
        else:
            rows[index] = known
            watcher.skip(plan.title, known.id)
    interrupted = False
    if tasks:
        record = _run_record(scenario, command, place, threads=1 if workers > 1 else None)
        saving = replace(saving, resume=saving.resume and not fresh)
        if saving.resume:
            _tell_of_earlier_attempts(tasks, log, record, watcher)
        run = log.begin_run(record)
        table = _Table(log, run, record, place, watcher, saving)
        play_all = _play_here if workers == 1 else _play_apart
        for wave in waves(tasks):
            ready = taught(wave, log, watcher)
            if ready and not interrupted:
                played, interrupted = play_all(ready, table, min(workers, len(ready)))
                rows |= played
    episodes = [rows[index] for index in sorted(rows)]
    return MatchResult(episodes, len(plans) - len(tasks), interrupted)


class _Table(NamedTuple):
    """Where a match is played and written down."""

    log: Log
    run: str
    record: RunRecord
    device: torch.device
    watcher: Watcher
    saving: Saving


def _play_here(
    tasks: Sequence[Task], table: _Table, workers: int
) -> tuple[dict[int, EpisodeRow], bool]:
    """Play one episode after the other in this process."""
    world = World(table.device, table.watcher)
    rows: dict[int, EpisodeRow] = {}
    for number, total, plan in tasks:
        table.watcher.begin(plan.title, number, total)
        row, interrupted = play_one(
            plan, world, table.log, run=table.run, record=table.record, saving=table.saving
        )
        rows[number] = row
        table.watcher.end(plan.title, row.id, row.status, row.error)
        if interrupted:
            return rows, True
    return rows, False


def _play_apart(
    tasks: Sequence[Task], table: _Table, workers: int
) -> tuple[dict[int, EpisodeRow], bool]:
    """Play episodes in several processes at once."""
    played, interrupted = play_in_workers(
        tasks,
        workers=workers,
        run=table.run,
        record=table.record,
        log_url=table.log.engine.url.render_as_string(hide_password=False),
        device=str(table.device),
        watcher=table.watcher,
        saving=table.saving,
    )
    return {done.number: table.log.episode(done.episode_id) for done in played}, interrupted


def prepare(scenario: Scenario, *, watcher: Watcher | None = None, device: str = "cpu") -> int:
    """Train every victim of a scenario and harden it, into the cache; returns how many fortresses.

    Raises:
        ArenaError: data are missing, a name is unknown, the cache cannot be written.
    """
    watcher = watcher or Watcher()
    world = World(pick_device(device), watcher)
    seen: set[str] = set()
    for plan in scenario.plans():
        key = f"{plan.seed}/{plan.defender.model_dump_json()}"
        if key not in seen:
            seen.add(key)
            watcher.line(f"preparing {plan.defender.name}, seed {plan.seed}")
            world.fortress(plan)
    return len(seen)


def pick_device(name: str) -> torch.device:
    """Turn a name into a device that is there."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArenaError(f"expected a device like 'cpu' or 'cuda:0', got '{name}'") from error
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ArenaError(f"device '{name}' is not there; CUDA devices found: {count}")
    elif device.type != "cpu":
        raise ArenaError(f"expected 'cpu' or 'cuda', got device '{name}'")
    return device


def _tell_of_earlier_attempts(
    tasks: Sequence[Task], log: Log, record: RunRecord, watcher: Watcher
) -> None:
    """Say of each episode that was played in part whether it resumes or starts afresh."""
    shelf = Shelf(log.where)
    for task in tasks:
        if line := outlook(task.plan, log, record, shelf).line:
            watcher.line(line)


def _run_record(
    scenario: Scenario, command: str, device: torch.device, *, threads: int | None
) -> RunRecord:
    commit, dirty = git_state()
    return RunRecord(
        command=command,
        scenario_name=scenario.name,
        scenario_text=scenario.text,
        versions=versions() | {THREADS: str(threads or torch.get_num_threads())},
        git_commit=commit,
        git_dirty=dirty,
        device=device_name(device),
    )
