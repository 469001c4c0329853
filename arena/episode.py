"""Plays one episode: sets the table, lets the attacker play, and writes the outcome down."""

import hashlib
import traceback
from collections.abc import Mapping
from typing import Any, NamedTuple

from agents.base import Attacker, Kit, granted
from arena import catalog
from arena.inference import score_inferences
from arena.lessons import LESSON
from arena.log.rows import Ending, EpisodeRecord, EpisodeRow, OutcomeRow, RunRecord
from arena.log.store import Log
from arena.log.writer import EpisodeWriter
from arena.recorder import Recorder
from arena.referee import CloneScore, Referee, ServiceScore
from arena.scenario import EpisodePlan
from arena.served import ServedSample
from arena.tape import Tape
from arena.world import Fortress, World
from envs.errors import ArenaError, BudgetExhausted, LogError, PlayerError
from envs.game import ExtractionGame, GameOracle
from envs.seeding import Streams
from envs.tally import Tally


class StandIn(NamedTuple):
    """Somebody who asks in the attacker's place: the recorded queries of another episode.

    Attributes:
        attacker: who asks.
        origin: id of the episode whose queries these are.
    """

    attacker: Attacker
    origin: str

    def hash_for(self, plan: EpisodePlan) -> str:
        """Name the what-if: 16 hexadecimal digits that no play has."""
        return hashlib.sha256(f"what-if/{self.origin}/{plan.hash}".encode()).hexdigest()[:16]


def play_one(
    plan: EpisodePlan,
    world: World,
    log: Log,
    *,
    run: str,
    record: RunRecord,
    stand_in: StandIn | None = None,
) -> tuple[EpisodeRow, bool]:
    """Play one plan; returns its row and whether the user broke off.

    A fault of a player, or of the preparation, ends this episode alone and is in its row.

    Args:
        plan: what is played.
        world: builds it.
        log: where it is written down.
        run: the run it belongs to.
        record: under which circumstances that run plays.
        stand_in: asks in the attacker's place; what comes of it is a what-if.

    Raises:
        LogError: the log cannot be written.
    """
    writer = log.begin_episode(run, _episode_record(plan, record, stand_in))
    interrupted = False
    try:
        if stand_in is not None:
            writer.event("what-if", f"answers the recorded queries of episode {stand_in.origin}",
                         origin=stand_in.origin)  # fmt: skip
        tape = Tape(log.where, writer.id, queries=plan.record == "queries")
        Episode(plan, world, stand_in).play(writer, tape)
    except KeyboardInterrupt:
        interrupted = True
        if not writer.finished:  # while the world was being prepared
            writer.finish("cancelled", None, error="interrupted by the user")
    except LogError:
        raise
    except ArenaError as fault:  # the world could not be prepared, the player was not admitted
        writer.finish("error", None, error=str(fault))
    return log.episode(writer.id), interrupted


class Episode:
    """One attacker against one defender on one seed.

    Args:
        plan: what is played.
        world: builds it.
        stand_in: asks in the attacker's place.
    """

    def __init__(self, plan: EpisodePlan, world: World, stand_in: StandIn | None = None) -> None:
        self._plan, self._world, self._stand_in = plan, world, stand_in
        self._streams = Streams(plan.seed)
        self._fortress: Fortress = world.fortress(plan)
        self._fortress.seat.recall(plan.lesson)
        self._referee = Referee(world.splits(plan).test, self._fortress.reference)
        self._served = ServedSample(
            self._fortress.reference.posteriors,
            plan.threat.budget,
            benign=plan.traffic.benign,
            ood_share=plan.traffic.ood_share,
        )
        self._game = ExtractionGame(
            world.threat(plan),
            self._fortress.posts,
            self._fortress.seat,
            clock=world.clock(plan, self._streams),
            streams=self._streams,
            traffic=world.traffic(plan, self._streams),
            witness=self._served,
        )

    def play(self, writer: EpisodeWriter, tape: Tape) -> None:
        """Play to the end and finish the episode's row.

        Args:
            writer: of the episode's rows.
            tape: keeps queries in files.

        Raises:
            KeyboardInterrupt: after the episode was closed as cancelled.
            LogError: the log cannot be written.
        """
        attacker = self._attacker()
        recorder = Recorder(
            self._game,
            attacker,
            self._referee,
            writer,
            checkpoints=self._plan.checkpoints,
            title=self._plan.title,
            watcher=self._world.watcher,
            tape=tape,
            measured=self._served.read,
        )
        status: Ending = "success"
        error: str | None = None
        try:
            self._attack(attacker, recorder, tape)
        except KeyboardInterrupt:
            status, error = "cancelled", "interrupted by the user"
            raise
        except Exception as fault:
            status, error = "error", _one_line(fault)
            writer.event(
                "error", error, queries_used=self._game.used, traceback=traceback.format_exc()
            )
        finally:
            self._finish(attacker, recorder, writer, status=status, error=error)

    def _attacker(self) -> Attacker:
        if self._stand_in is not None:
            return self._stand_in.attacker
        threat = self._game.threat
        spec = self._plan.attacker
        attacker = catalog.attackers.create(spec.use, spec.params)
        assert isinstance(attacker, Attacker)
        granted(
            attacker,
            labels=threat.labels,
            latency_visible=threat.latency_visible,
            pool=self._plan.threat.pool is not None,
        )
        return attacker

    def _attack(self, attacker: Attacker, recorder: Recorder, tape: Tape) -> None:
        kit = Kit(
            device=self._world.device,
            generator=self._streams.torch("attacker", self._world.device),
            new_clone=self._world.clones(self._plan, self._streams),
            surrogate_pool=self._world.pool(self._plan),
            on_report=lambda values: recorder.hear(dict(values)),
        )
        try:
            attacker.attack(tape.listening_to(GameOracle(self._game)), kit)
        except BudgetExhausted:
            return

    def _finish(
        self,
        attacker: Attacker,
        recorder: Recorder,
        writer: EpisodeWriter,
        *,
        status: Ending,
        error: str | None,
    ) -> None:
        """Measure what there is, whatever happened, and close the row."""
        score = None
        try:
            score = self._final_score(attacker)
            tally = recorder.close(score)
            outcome = self._outcome(score, tally)
            score_inferences(attacker.inferred, self._fortress.posts, writer)
            self._hear_defender(writer)
        except Exception as fault:  # a NaN clone, an answer off the simplex, a broken plug-in
            outcome = OutcomeRow(budget=self._plan.threat.budget, queries_used=self._game.used)
            if status == "success":
                status, error = "error", _one_line(fault)
        recorder.keep_files()
        writer.finish(status, outcome, error=error)

    def _hear_defender(self, writer: EpisodeWriter) -> None:
        """Write down what the defender noticed, and what its next episode should know."""
        seat = self._fortress.seat
        try:
            for note in seat.notes():
                data = dict(note.data)
                writer.event(note.kind, note.message, answered=note.answered, data=data)
            if lesson := dict(seat.lesson()):
                writer.event(LESSON, "what the defender takes to its next episode", lesson=lesson)
        except Exception as fault:  # a plug-in's; what was measured must not be lost to it
            writer.event("error", _one_line(fault), traceback=traceback.format_exc())

    def _final_score(self, attacker: Attacker) -> CloneScore | None:
        if attacker.clone is None:
            return None
        try:
            return self._referee.score(attacker.clone)
        except PlayerError as error:
            raise PlayerError(f"{self._plan.attacker.name}: {error}") from error

    def _outcome(self, score: CloneScore | None, tally: Tally) -> OutcomeRow:
        service = self._referee.score_service(
            self._fortress.posts,
            self._fortress.seat,
            streams=self._streams,
            labels=self._plan.threat.labels,
            answered=tally.attack.answered + tally.benign.answered,
        )
        full = self._fortress.reference.profile.macs[-1]
        return OutcomeRow(
            budget=self._plan.threat.budget,
            clone_accuracy=score.accuracy if score else None,
            clone_fidelity=score.fidelity if score else None,
            victim_accuracy=self._referee.victim_accuracy,
            harden_seconds=self._fortress.seconds,
            full_macs=full,
            **_service(service),
            **_costs(tally, full),
        )


def _service(service: ServiceScore) -> dict[str, Any]:
    return {
        "served_accuracy": service.accuracy,
        "served_agreement": service.agreement,
        "distortion_mean": service.distortion_mean,
        "distortion_p95": service.distortion_p95,
    }


def _costs(tally: Tally, full_macs: int) -> dict[str, Any]:
    """Turn counters into means per query; a kind of traffic that never came has none."""
    costs: dict[str, Any] = {
        "queries_used": tally.used,
        "query_digest": tally.query_digest,
        "answer_digest": tally.answer_digest,
    }
    for name, side in (("attack", tally.attack), ("benign", tally.benign)):
        costs[f"{name}_answered"] = side.answered
        if side.answered:
            macs = side.macs / side.answered
            costs[f"{name}_macs_mean"] = macs
            costs[f"{name}_compute_share"] = macs / full_macs
            costs[f"{name}_seconds_mean"] = side.seconds / side.answered
    return costs


def _one_line(fault: Exception) -> str:
    """Tell a fault in one line: our own as they are, others with their type."""
    text = " ".join(str(fault).split()) or "no message"
    return text if isinstance(fault, ArenaError) else f"{type(fault).__name__}: {text}"


def _episode_record(
    plan: EpisodePlan, run: RunRecord, stand_in: StandIn | None = None
) -> EpisodeRecord:
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
        versions=run.versions,
        git_commit=run.git_commit,
        device=run.device,
    )
