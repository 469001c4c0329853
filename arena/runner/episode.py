"""Plays one episode: sets it up, lets the attacker play, and writes the outcome."""

from collections.abc import Mapping
from typing import IO, Any, NamedTuple

from agents.base import Attacker, Kit, granted
from arena.evaluation.initial_weights import InitialWeights
from arena.isolation.attacker import IsolatedAttacker
from arena.log.outcome import OutcomeRow
from arena.log.player_values import checked_numbers
from arena.log.store import Log
from arena.log.writer import EpisodeWriter
from arena.recording.tape import Tape
from arena.registry import players
from arena.runner.events import EpisodeEvents, Fault
from arena.runner.finishing import Finish
from arena.runner.game_setup import GameSetup
from arena.runner.recorder import Recorder
from arena.runner.saves.schedule import Saver, Saving
from arena.runner.saves.snapshots import lent, read, snapshot
from arena.runner.saves.store import SaveStore
from arena.runner.setup import Setup
from arena.runner.stand_in import StandIn
from arena.runner.stopping import STOP
from arena.runner.time_limit import TIME_UP, TimeLimit, TimeUp
from arena.scenario import EpisodePlan
from arena.scenario.planning import requirements
from arena.system.process_state import ProcessState
from envs.errors import BudgetExhausted, PlayerError, SaveError, one_line
from envs.game.game_oracle import GameOracle
from envs.seeding import Streams


class Saves(NamedTuple):
    """Where an episode is saved, and how often."""

    log: Log
    store: SaveStore | None
    saving: Saving


class Episode:
    """One attacker against one defender on one seed.

    Args:
        plan: what is played.
        setup: builds it.
        stand_in: asks in the attacker's place.
        saves: where it is saved; nowhere if absent.

    Attributes:
        unlucky: it ended for want of room or memory; another time it may go on from its save.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        setup: Setup,
        stand_in: StandIn | None = None,
        *,
        saves: Saves | None = None,
    ) -> None:
        self._plan, self._setup, self._stand_in = plan, setup, stand_in
        self._before = ProcessState.capture()
        self._parts = GameSetup(plan, setup)
        self._game = self._parts.game
        self.unlucky = False
        self._saves = saves
        self._saved: dict[str, Any] | None = None  # Any: what `_state` returned
        self._attacker: Attacker | None = None
        self._writer: EpisodeWriter | None = None
        self._events: EpisodeEvents | None = None
        self._recorder: Recorder | None = None
        self._saver: Saver | None = None

    @property
    def seconds(self) -> float:
        """Seconds that it was played before it was saved; 0 for a fresh one."""
        return 0.0 if self._saved is None else float(self._saved["recorder"]["seconds"])

    def load(self, file: IO[bytes], tape: Tape, *, pickled: bool, charged: int) -> None:
        """Go to where the episode was saved.

        Args:
            file: the state, as it was saved.
            tape: keeps the queries from there on.
            pickled: whether the state is a pickle, which runs what it says.
            charged: images charged when it broke off: a victim elsewhere cannot be rewound.

        Raises:
            SaveError: the state cannot be read by this program, or is of other players.
        """
        self._set_up_attacker(tape)
        state = read(file, self._live, pickled=pickled)
        try:
            if not pickled:  # the classes of a plug-in may have been loaded anew
                _expect_same_class(self._attacker, state["attacker"])
                _expect_same_class(self._parts.defender, state["defender"])
            self._attacker = state["attacker"]
            self._kit.generator.set_state(state["generator"])
            self._clones.set_state(state["clones"])
            self._kit.shared_findings.update(state["shared_findings"])
            self._parts.restore(state, charged=charged)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as fault:
            raise SaveError(one_line(fault)) from fault
        self._saved = state

    def play(self, writer: EpisodeWriter, tape: Tape) -> None:
        """Play to the end and finish the episode's row.

        Args:
            writer: of the episode's rows.
            tape: keeps queries in files; the one that `load` was given, if it was called.

        Raises:
            KeyboardInterrupt: after the episode was closed.
            LogError: the log cannot be written.
        """
        if self._saved is None:
            self._set_up_attacker(tape)
        attacker = self._attacker
        assert attacker is not None
        parts, self._writer = self._parts, writer
        self._events = EpisodeEvents(writer, self._game, self._before)
        writer.set_up(
            num_classes=self._game.threat.num_classes,
            exit_names=parts.exit_names,
            **self._knowledge,
        )
        self._recorder = recorder = Recorder(
            self._game,
            attacker,
            parts.referee,
            writer,
            checkpoints=self._plan.checkpoints,
            title=self._plan.title,
            watcher=self._setup.watcher,
            tape=tape,
            measured=parts.measured,
            untrained=self._initial.holds,
            costs_known=parts.remote is None,
        )
        limit = self._plan.time_limit
        if limit is not None:
            limit -= self.seconds
        apart = isinstance(attacker, IsolatedAttacker)
        self._time = TimeLimit(limit, lambda: self._game.busy, once=apart)
        tape.undefended = parts.undefended
        # the recorder comes late: its checkpoints read what the others hold of the same round
        self._game.add_observers(*parts.observers, tape, recorder, self._time, STOP)
        if self._saved is not None:
            # only now is the row this process's own, and the files with it
            tape.restore(self._saved["tape"])
            recorder.restore(self._saved["recorder"])
        parts.charge_to(writer, self._setup.watcher.line, self._saved)
        self._saver = self._make_saver(writer, tape)
        fault = self._events.fault_of(lambda: self._attack(attacker))
        if fault is None and recorder.clone_fault is not None:  # the attacker caught it
            fault = Fault(recorder.clone_fault)
        # the referee measures in the process as it was before players came
        self._events.restore_process()
        self._setup.watcher.phase(self._plan.title, "scoring")
        finish = Finish(
            self._plan,
            parts,
            attacker,
            self._first_clone,
            recorder,
            writer,
            self._events,
            tape,
            tell=self._setup.watcher.line,
            outcome=OutcomeRow(queries_used=self._game.used),
        )
        try:
            finish.close(fault)
        finally:
            self.unlucky = finish.first_fault is not None and finish.first_fault.unlucky
            if isinstance(attacker, IsolatedAttacker):
                attacker.close()
            parts.close()

    def _set_up_attacker(self, tape: Tape) -> None:
        """Make the attacker, its oracle and its kit."""
        self._oracle = GameOracle(self._game)
        pool, overlap = self._setup.images.pool(self._plan)
        apart = self._stand_in is None and self._plan.isolation == "process"
        if not apart:
            self._attacker = self._admitted()
        requires = requirements(self._plan) if self._attacker is None else self._attacker.requires
        named, normalisation = self._setup.normalisation(self._plan, requires, pool)
        new_clone, self._clones = self._setup.clones(self._plan, self._parts.streams, normalisation)
        # of a stream of its own: the attacker's clones are drawn from the other
        first_clone, _ = self._setup.clones(self._plan, Streams(self._plan.seed), normalisation)
        self._first_clone, self._initial = first_clone, InitialWeights(first_clone)
        if apart:
            self._attacker = IsolatedAttacker(
                self._setup.contestant(self._plan, self._clones, normalisation, self._note_gap)
            )
        self._knowledge: dict[str, Any] = {  # Any: columns of the row
            "clone_normalisation": named,
            "test_overlap": overlap,
        }
        self._kit = Kit(
            device=self._setup.device,
            generator=self._parts.streams.torch("attacker", self._setup.device),
            new_clone=new_clone,
            surrogate_pool=pool,
            on_report=self._report,
            on_note=self._note,
            on_safe_point=self._safe_point,
        )

    def _admitted(self) -> Attacker:
        if self._stand_in is not None:
            return self._stand_in.attacker
        threat = self._game.threat
        spec = self._plan.attacker
        attacker = players.create_attacker(spec, spec.wrappers, prefix=("attackers", spec.name))
        granted(
            attacker,
            labels=threat.labels,
            latency_visible=threat.latency_visible,
            pool=self._plan.threat.pool is not None,
        )
        return attacker

    def _attack(self, attacker: Attacker) -> None:
        begin = attacker.attack if self._saved is None else attacker.resume
        self._saved = None  # its tensors are the attacker's now
        try:
            if isinstance(attacker, IsolatedAttacker):
                attacker.start(self._oracle, self._kit)  # no part of its time
            STOP.attack_begins(lambda: self._game.busy)
            with self._time.running():
                begin(self._oracle, self._kit)
        except (BudgetExhausted, TimeUp):
            pass
        except BaseException:
            self._raise_earlier()
            raise
        finally:
            self._game.close()  # what is scored from here on gets no answers
            STOP.attack_ended()
        self._raise_earlier()
        if self._time.over:
            raise PlayerError(f"{TIME_UP} {self._plan.time_limit:g} s")

    def _raise_earlier(self) -> None:
        """Raise what ended the game, if the attacker caught it and ended otherwise."""
        STOP.check()
        if self._game.fault is not None and not self._time.over:
            raise self._game.fault

    def _report(self, values: Mapping[str, float]) -> None:
        if self._recorder is not None:
            self._recorder.report(checked_numbers(values, "kit.report"))

    def _note(self, kind: str, message: str, data: Mapping[str, object]) -> None:
        if self._events is not None:
            self._events.say(kind, message, data)

    def _note_gap(self, gap: str) -> None:
        """Write down what an isolated attacker could still do, where the system is too old."""
        assert self._writer is not None
        line = f"the attacker is not wholly isolated: {gap}"
        self._writer.event("isolation", line, queries_used=self._game.used)
        self._setup.watcher.line(f"{self._plan.title}: {line}")

    def _safe_point(self) -> None:
        if self._saver is not None:
            self._saver.safe_point()

    @property
    def _live(self) -> dict[str, object]:
        """What a save knows by name: it is there again when the save is read."""
        return {**lent(self._oracle, self._kit), **self._parts.live}

    def _make_saver(self, writer: EpisodeWriter, tape: Tape) -> Saver | None:
        saves, attacker = self._saves, self._attacker
        if saves is None or attacker is None or not attacker.resumable:
            return None
        log = saves.log

        def save(store: SaveStore) -> None:
            state = self._state(tape)
            for row in tape.finished():
                writer.artifact(row)
            writer.flush()  # so that the mark covers all rows until now
            store.put(
                writer.id,
                self._plan.hash,
                snapshot(state, self._live),
                queries_used=self._game.used,
                mark=log.mark(writer.id),
            )

        def complain(reason: str) -> None:
            writer.event("not-saved", reason, queries_used=self._game.used)
            self._setup.watcher.line(f"{self._plan.title}: {reason}")

        return Saver(saves.store, saves.saving, save=save, complain=complain)

    def _state(self, tape: Tape) -> dict[str, object]:
        assert self._recorder is not None
        return {
            "attacker": self._attacker,
            "generator": self._kit.generator.get_state(),
            "clones": self._clones.get_state(),
            "shared_findings": self._kit.shared_findings,
            **self._parts.state(),
            "tape": tape.state(),
            "recorder": self._recorder.state(),
        }


def _expect_same_class(planned: object, saved: object) -> None:
    if type(saved) is not type(planned):
        raise SaveError(f"its save is of {type(saved).__name__}, not {type(planned).__name__}")
