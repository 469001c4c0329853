"""Plays the episodes of a scenario that the log does not have yet."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from arena.log.engine import require_place
from arena.log.episode_filter import EpisodeFilter
from arena.log.rows import EpisodeRow, RunRecord
from arena.log.store import Log
from arena.recording.tape import require_places
from arena.runner.carry_over import dependency_levels, with_carried_state
from arena.runner.image_preload import read_images
from arena.runner.match_result import MatchResult
from arena.runner.progress import Watcher
from arena.runner.remote import reach
from arena.runner.resume import episode_record, play_one
from arena.runner.run_record import run_record
from arena.runner.saves.attempts import previous_attempt
from arena.runner.saves.schedule import USUAL, Saving
from arena.runner.saves.store import SaveStore
from arena.runner.scheduler import FailedTask, play_in_workers
from arena.runner.searching import search
from arena.runner.setup import Setup
from arena.runner.sharing import told_end, wait_for_others
from arena.runner.stopping import STOP
from arena.runner.task import Task
from arena.runner.workers.options import WorkerOptions
from arena.runner.workers.pool import WorkerConfig
from arena.scenario import EpisodePlan, Scenario
from arena.scenario.required_files import require_files
from arena.system.devices import pick_devices


def play(
    scenario: Scenario,
    *,
    log: Log,
    watcher: Watcher | None = None,
    device: str = "cpu",
    fresh: bool = False,
    workers: int | str = 1,
    command: str = "arena.runner.match.play",
    saving: Saving = USUAL,
    fail_fast: bool = False,
) -> MatchResult:
    """Play every episode of a scenario that the log does not hold yet.

    What another process plays meanwhile is waited for and not played twice, but with `fresh`.

    Args:
        scenario: what to play.
        log: holds earlier episodes and receives the new ones.
        watcher: sees the progress.
        device: "cpu", "cuda", "cuda:1"; several, with commas between, for several workers.
        fresh: play finished episodes again, and broken-off ones from their beginning.
        workers: processes that play at once, each with one thread; "ray" or "ray:ADDRESS" for
            those of a Ray cluster.
        command: what starts this match again.
        saving: how episodes are saved, and whether broken-off ones are resumed.
        fail_fast: begin no episode after one that ended in an error.

    Raises:
        DataMissing: a file the scenario names is not there or is damaged, so that nothing was
            played.
        ArenaError: nothing could be prepared, or the log cannot be written. A fault inside an
            episode ends that episode alone and is in its row.
    """
    options = WorkerOptions.of(workers)
    match = _Match(
        scenario,
        log,
        watcher or Watcher(),
        options,
        pick_devices(device, workers=options.workers),
        command,
        replace(saving, resume=saving.resume and not fresh),
        fresh=fresh,
        fail_fast=fail_fast,
    )
    if scenario.search is not None:
        return search(scenario, match.play, fail_fast=fail_fast)
    return match.play(scenario.plans())


def require_playable(
    scenarios: Iterable[Scenario], log: str | Path | None, *, device: str, workers: int | str
) -> None:
    """Refuse what needs no log to be refused, so that none is made for it; see `play`.

    Raises:
        ArenaError: the log, a device or the workers cannot be had.
    """
    address, options = require_place(log), WorkerOptions.of(workers)
    pick_devices(device, workers=options.workers)
    options.require(address)
    for scenario in scenarios:
        require_places(address.where, record=scenario.record, keep=scenario.keep)


class _Match:
    """Plays episodes of one scenario into a log, as one run."""

    def __init__(
        self,
        scenario: Scenario,
        log: Log,
        watcher: Watcher,
        options: WorkerOptions,
        devices: tuple[torch.device, ...],
        command: str,
        saving: Saving,
        *,
        fresh: bool,
        fail_fast: bool,
    ) -> None:
        self._scenario, self._log, self._watcher = scenario, log, watcher
        self._options, self._devices, self._command = options, devices, command
        self._saving, self._fresh, self._fail_fast = saving, fresh, fail_fast
        self._context: _Context | None = None
        self._begun = 0

    def play(self, plans: Sequence[EpisodePlan]) -> MatchResult:
        """Play those that the log does not hold yet; see `play`."""
        rows: dict[int, EpisodeRow] = {}
        tasks: list[Task] = []
        # of a search, points that it may still ask for are among them
        total = len(plans) if self._scenario.search is None else self._scenario.size
        for index, plan in enumerate(plans, self._begun):
            known = None if self._fresh else self._log.finished(plan.hash)
            if known is None:
                tasks.append(Task(index, total, plan))
            else:
                rows[index] = known
                self._watcher.skip(plan.title, known.id)
        self._begun += len(plans)
        interrupted = False
        if tasks:
            played, interrupted = self._play(tasks, self._prepared(tasks))
            rows |= played
        episodes = [rows[index] for index in sorted(rows)]
        return MatchResult(episodes, len(plans) - len(tasks), interrupted, len(plans))

    def _prepared(self, tasks: Sequence[Task]) -> "_Context":
        """Read what the first episodes need, and begin the run where it has not begun."""
        if self._context is None:
            self._context = self._begin(tasks)
        elif (setup := self._context.setup) is not None:
            read_images(setup, (task.plan for task in tasks))
        if self._saving.resume:
            _tell_of_earlier_attempts(tasks, self._log, self._context.record, self._watcher)
        return self._context

    def _begin(self, tasks: Sequence[Task]) -> "_Context":
        scenario, apart, watcher = self._scenario, self._options.apart, self._watcher
        require_files(scenario)
        require_places(self._log.where, record=scenario.record, keep=scenario.keep)
        setup = Setup(torch.device("cpu") if apart else self._devices[0], watcher)
        if scenario.victim.is_remote:
            reach(tasks[0].plan, setup.threat(tasks[0].plan), setup.device, watcher.line).close()
        read_images(setup, (task.plan for task in tasks))
        record = run_record(
            self._command,
            self._devices[0],
            scenario_name=scenario.name,
            scenario_text=scenario.text,
            threads=1 if apart else None,
        )
        run = self._log.begin_run(record)
        # workers read for themselves
        return _Context(self._log, run, record, self._devices, watcher, self._saving,
                        None if apart else setup, self._fail_fast)  # fmt: skip

    def _play(
        self, tasks: Sequence[Task], context: "_Context"
    ) -> tuple[dict[int, EpisodeRow], bool]:
        rows: dict[int, EpisodeRow] = {}
        interrupted = False
        play_all = _play_apart if self._options.apart else _play_here
        for level in dependency_levels(tasks):
            if context.stops_after(rows.values()):
                break
            ready = with_carried_state(level, self._log, self._watcher)
            while ready and not interrupted:
                played, interrupted = play_all(ready, context, self._options)
                rows |= played
                if not interrupted:
                    elsewhere = [task for task in ready if _goes_on(rows.get(task.number))]
                    settled, ready, interrupted = wait_for_others(
                        elsewhere, rows, self._log, self._watcher
                    )
                    rows |= settled
        return rows, interrupted


def _goes_on(row: EpisodeRow | None) -> bool:
    return row is not None and row.status == "started"


class _Context(NamedTuple):
    """Where a match plays, and the log it writes."""

    log: Log
    run: str
    record: RunRecord
    devices: tuple[torch.device, ...]
    watcher: Watcher
    saving: Saving
    setup: Setup | None
    fail_fast: bool

    def stops_after(self, rows: Iterable[EpisodeRow]) -> bool:
        """Whether one of these episodes failed, and no other shall begin."""
        return self.fail_fast and any(row.status == "error" for row in rows)


def _play_here(
    tasks: Sequence[Task], context: _Context, options: WorkerOptions
) -> tuple[dict[int, EpisodeRow], bool]:
    """Play in this process, one episode after the other."""
    setup = context.setup
    assert setup is not None
    rows: dict[int, EpisodeRow] = {}
    for task in tasks:
        context.watcher.begin(task.plan.title, task.number, task.total)
        row, interrupted = play_one(
            task.plan,
            setup,
            context.log,
            run=context.run,
            record=context.record,
            saving=context.saving,
        )
        rows[task.number] = row
        told_end(context.watcher, task.plan.title, row, run=context.run)
        if interrupted or STOP.came:
            return rows, True
        if context.stops_after([row]):
            break
    return rows, False


def _play_apart(
    tasks: Sequence[Task], context: _Context, options: WorkerOptions
) -> tuple[dict[int, EpisodeRow], bool]:
    """Play episodes in worker processes, several at once."""
    config = WorkerConfig(
        run=context.run,
        log_url=context.log.engine.url.render_as_string(hide_password=False),
        devices=tuple(map(str, context.devices)),
        record=context.record,
        saving=context.saving,
    )
    result = play_in_workers(
        tasks,
        options.pool(len(tasks), config),
        context.watcher,
        fail_fast=context.fail_fast,
    )
    rows = {done.number: context.log.episode(done.episode_id) for done in result.played}
    for failed in result.failed:
        row = _row_of(failed, context, interrupted=result.interrupted)
        if row is None:
            continue
        rows[failed.task.number] = row
        context.watcher.end(failed.task.plan.title, row.id, row.status, row.error)
    return rows, result.interrupted


def _row_of(failed: FailedTask, context: _Context, *, interrupted: bool) -> EpisodeRow | None:
    """Read the row of an episode whose worker died; write one if it has none.

    An episode that the user interrupted before it began gets no row.
    """
    Log.open(context.log.engine.url.render_as_string(hide_password=False)).close()  # marks the dead
    plan = failed.task.plan
    for row in context.log.episodes(EpisodeFilter(plan_hash=plan.hash, limit=1)):
        if row.status != "success":  # an older one, with `fresh`
            return row
    if interrupted:
        return None
    writer = context.log.begin_episode(context.run, episode_record(plan, context.record))
    writer.finish("error", None, error=f"its worker: {failed.reason}")
    return context.log.episode(writer.id)


def _tell_of_earlier_attempts(
    tasks: Sequence[Task], log: Log, record: RunRecord, watcher: Watcher
) -> None:
    """Report of each broken-off episode whether it resumes or starts afresh."""
    store = SaveStore(log.where)
    for task in tasks:
        if line := previous_attempt(task.plan, log, record, store).line:
            watcher.line(line)
