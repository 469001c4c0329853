"""Plays a plan into the log: from the beginning, or from where an earlier attempt was saved."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext

from arena.log.rows import EpisodeRecord, EpisodeRow, RunRecord
from arena.log.store import Log
from arena.log.writer import EpisodeWriter
from arena.recording.tape import Tape
from arena.runner.episode import Episode, Saves
from arena.runner.events import written_traceback
from arena.runner.saves.attempts import PreviousAttempt, previous_attempt
from arena.runner.saves.schedule import Saving
from arena.runner.saves.store import SaveStore
from arena.runner.setup import Setup
from arena.runner.stand_in import StandIn
from arena.runner.stopping import STOP
from arena.scenario import EpisodePlan
from arena.scenario.planning import EditedFiles, require_unedited
from arena.system.output import stdout_to_stderr
from arena.system.process_state import process_state_kept
from arena.system.staying import staying
from arena.system.threads import threads_of
from envs.errors import LogError, SaveError, VictimUnreachable, one_line


def play_one(
    plan: EpisodePlan,
    setup: Setup,
    log: Log,
    *,
    run: str,
    record: RunRecord,
    stand_in: StandIn | None = None,
    saving: Saving | None = None,
) -> tuple[EpisodeRow, bool]:
    """Play one plan; returns its row and whether the user broke off.

    With `saving.resume`, a plan that another process plays or has played is not played again: the
    row is that play's then, and "started" while it goes on.

    A fault of a player, or of the preparation, ends this episode alone and is in its row. What
    players print goes to standard error, `os._exit` ends the episode like any other exception, and
    the process's state is set back at the end.

    Args:
        plan: what is played.
        setup: builds it.
        log: where it is written down.
        run: the run it belongs to.
        record: under which circumstances that run plays.
        stand_in: asks in the attacker's place; what comes of it is a what-if.
        saving: how the episode is saved, and an earlier attempt gone on with; not if absent.

    Raises:
        LogError: the log cannot be written.
    """
    with process_state_kept(), stdout_to_stderr(), staying():
        return _play_or_resume(
            plan, setup, log, run=run, record=record, stand_in=stand_in, saving=saving
        )


def _play_or_resume(
    plan: EpisodePlan,
    setup: Setup,
    log: Log,
    *,
    run: str,
    record: RunRecord,
    stand_in: StandIn | None,
    saving: Saving | None,
) -> tuple[EpisodeRow, bool]:
    # an isolated attacker starts afresh, and never in this process from an older save
    kept = saving is not None and stand_in is None and plan.isolation == "none"
    store = SaveStore(log.where) if kept and log.shared else None
    shares = saving is not None and saving.resume and stand_in is None
    if shares and log.shared:
        log.mark_dead()  # its own workers' too, which died since the log was opened
    if store is not None and saving is not None and saving.resume:
        seen = previous_attempt(plan, log, record, store)
        if seen.save is not None:
            resumed = _resume(plan, setup, log, run=run, seen=seen, store=store, saving=saving)
            if resumed is not None:
                return resumed
    episode = episode_record(plan, record, stand_in)
    writer = log.claim_episode(run, episode) if shares else log.begin_episode(run, episode)
    if isinstance(writer, str):
        return log.episode(writer), False
    interrupted = unlucky = False
    try:
        if stand_in is not None:
            writer.event("what-if", f"answers the recorded queries of episode {stand_in.origin}",
                         origin=stand_in.origin)  # fmt: skip
        tape = Tape(log.where, writer.id, queries=plan.record == "queries")
        # a replay plays what is there, and tells what changed
        with _unedited(plan, setup) if saving is not None else nullcontext():
            game = Episode(plan, setup, stand_in, saves=Saves(log, store, saving or Saving()))
        game.play(writer, tape)
        unlucky = game.unlucky
    except LogError:
        raise
    except BaseException as fault:
        interrupted = STOP.caused(fault)
        _close_unfinished(writer, fault, interrupted=interrupted)
    return _closed(plan, log, writer.id, None if unlucky else store), interrupted


def _resume(
    plan: EpisodePlan,
    setup: Setup,
    log: Log,
    *,
    run: str,
    seen: PreviousAttempt,
    store: SaveStore,
    saving: Saving,
) -> tuple[EpisodeRow, bool] | None:
    """Resume an earlier attempt; where that is impossible, report why and return None."""
    save = seen.save
    assert save is not None
    with threads_of(seen.versions):
        tape = Tape(log.where, save.episode, queries=plan.record == "queries")
        charged = log.episode(save.episode).queries_used or save.queries_used
        try:
            with _unedited(plan, setup):
                episode = Episode(plan, setup, saves=Saves(log, store, saving))
            with store.open(save) as file:
                episode.load(file, tape, pickled=save.pickled, charged=charged)
            writer = log.reopen_episode(
                save.episode, save.mark, seconds=episode.seconds,
                queries_used=save.queries_used, run=run,
                charged=charged if plan.victim.is_remote else None,
            )  # fmt: skip
            if writer is None:
                raise SaveError("another process plays it already")
        except LogError:
            raise
        except (VictimUnreachable, EditedFiles) as fault:  # another time the save is gone on from
            tape.close()
            setup.watcher.line(f"{plan.title}: {save.episode} is not resumed: {one_line(fault)}")
            return log.episode(save.episode), False
        except BaseException as fault:
            tape.close()
            if STOP.caused(fault):
                return log.episode(save.episode), True
            setup.watcher.line(f"{plan.title}: {save.episode} cannot be resumed "
                               f"({one_line(fault)}); starting afresh")  # fmt: skip
            return None
        interrupted = False
        try:
            episode.play(writer, tape)
        except LogError:
            raise
        except BaseException as fault:
            interrupted = STOP.caused(fault)
            _close_unfinished(writer, fault, interrupted=interrupted)
    return _closed(plan, log, writer.id, None if episode.unlucky else store), interrupted


@contextmanager
def _unedited(plan: EpisodePlan, setup: Setup) -> Iterator[None]:
    """Refuse files that are not those of the plan, before a set-up and after it.

    A training takes hours, in which files change.

    Raises:
        EditedFiles: they were edited.
    """
    require_unedited(plan, held=setup.images.held(plan))
    yield
    require_unedited(plan, held=setup.images.held(plan))


def _close_unfinished(writer: EpisodeWriter, fault: BaseException, *, interrupted: bool) -> None:
    """Close the row of an episode that a fault ended before the episode could do so.

    It could not be prepared, its player was not admitted, or the user broke off meanwhile. Raises
    the fault again where the row is closed and the fault is no stop.
    """
    if writer.finished:
        if not interrupted:
            raise fault
    elif interrupted:
        writer.finish("cancelled", None, error="interrupted by the user")
    else:
        writer.event("error", one_line(fault), traceback=written_traceback())
        writer.finish("error", None, error=one_line(fault))


def _closed(plan: EpisodePlan, log: Log, id: str, store: SaveStore | None) -> EpisodeRow:
    """Read an episode's row; a save is of no use once it was played, or its player failed."""
    row = log.episode(id)
    if store is not None and row.status == "success":
        store.drop_plan(plan.hash)
    elif store is not None and row.status == "error":
        store.drop(id)
    return row


def episode_record(
    plan: EpisodePlan, run: RunRecord, stand_in: StandIn | None = None
) -> EpisodeRecord:
    """Describe an episode that is about to be played, for the log."""
    settings: Mapping[str, object] = plan.model_dump(mode="json")
    return EpisodeRecord(
        scenario_name=run.scenario_name,
        # a what-if is no play of its plan, so that the plan does not count as played
        plan_hash=plan.hash if stand_in is None else stand_in.hash_for(plan),
        kind="play" if stand_in is None else "what-if",
        plan=settings,
        seed=plan.seed,
        attacker=plan.attacker.name,
        attacker_params=plan.attacker.params,
        defender=plan.defender.name,
        defender_params=plan.defender.model_dump(mode="json"),
        victim=plan.victim.use,
        clone=plan.clone.use,
        data=plan.data.use,
        budget=plan.threat.budget,
        versions=run.versions,
        git_commit=run.git_commit,
        device=run.device,
    )
