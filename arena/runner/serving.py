"""Plays one API key's game of a server, and writes it into the log as an episode."""

import hashlib
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection

from agents.base import Attacker, Kit
from arena.evaluation.referee import CloneScore
from arena.log.episode_filter import EpisodeFilter
from arena.log.outcome import OutcomeRow
from arena.log.reopening import served_meanwhile
from arena.log.rows import EpisodeRecord, EpisodeRow, RunRecord
from arena.log.store import Log
from arena.recording.tape import Tape
from arena.runner.clone_file import write_clone
from arena.runner.events import EpisodeEvents
from arena.runner.game_setup import GameSetup
from arena.runner.recorder import Recorder
from arena.runner.resume import episode_record
from arena.runner.sent_weights import plain_state_dict
from arena.runner.setup import Setup
from arena.scenario import EpisodePlan
from arena.scenario.plan import AttackerPlan
from arena.system.process_state import ProcessState
from envs.errors import DataMissing, LogError, QueryError, ScenarioError
from envs.game.extraction_game import ExtractionGame
from envs.game.rounds import Round
from envs.nets.given_weights import take_weights
from envs.nets.staged import Staged
from envs.oracle import Oracle
from envs.seeding import Streams

HANDED_OVER = "clone-handed-over"
"""Kind of the event that ends a key's attack."""

CUT_OFF = "cut-off"
"""Kind of the event that tells that a defender cut all accounts of a key off."""

_OVER = {HANDED_OVER: "it handed its clone over", CUT_OFF: "it was cut off"}

_SERVICE = ("scenario_name", "attacker", "defender", "victim", "clone", "data", "seed")
"""Columns by which episodes of one key of one service are known."""


class _Elsewhere(Attacker):
    """Stands for an attacker that asks over HTTP; it hands its clone over at its end."""

    def attack(self, oracle: Oracle, kit: Kit) -> None:
        raise NotImplementedError


class Before(NamedTuple):
    """What a key has done in a log before.

    Attributes:
        used: images that were charged to it.
        episodes: ids of its episodes, the last one first.
        over: why it gets no more answers; "" where it does.
    """

    used: int = 0
    episodes: tuple[str, ...] = ()
    over: str = ""


def before(log: Log, plan: EpisodePlan, key: str, record: RunRecord) -> Before:
    """Look up what a key has asked of the same service in a log.

    A service is known by its scenario's name, data, networks, defender and seed.

    Raises:
        LogError: another server serves this key.
        ScenarioError: its accounts have budgets of their own, whose rests are not known.
    """
    new = episode_record(_named(plan, key), record)
    rows = [
        row
        for row in log.episodes(EpisodeFilter(kind="served"), brief=True)
        if all(getattr(row, name) == getattr(new, name) for name in _SERVICE)
    ]
    if not rows:
        return Before()
    if living := [row.id for row in rows if row.status == "started"]:
        raise LogError(
            f"another server serves {key} into this log, as episode {living[0]}; stop it, give the "
            f"key another name or use another --log ('arena log close {living[0]}' if it is gone)"
        )
    used = sum(row.queries_used or 0 for row in rows)
    if used and plan.threat.account_budget is not None:
        raise ScenarioError(
            f"{key} has used {used} queries in this log (episode {rows[0].id}), and what each of "
            f"its accounts has left is not known; give the key another name or use another --log"
        )
    kinds = {event.kind for row in rows for event in log.events(row.id)}
    over = next((why for kind, why in _OVER.items() if kind in kinds), "")
    return Before(used, tuple(row.id for row in rows), over)


def _require_unserved(connection: Connection, new: EpisodeRecord, seen: Collection[str]) -> None:
    """Refuse a key that another server began to serve since the log was read."""
    service = {name: getattr(new, name) for name in _SERVICE}
    if other := served_meanwhile(connection, service, seen=seen):
        raise LogError(
            f"another server has begun to serve {new.attacker} into this log, as episode {other}; "
            f"stop it, give the key another name or use another --log"
        )


def _named(plan: EpisodePlan, key: str) -> EpisodePlan:
    return plan.model_copy(update={"attacker": AttackerPlan(name=key, use="elsewhere")})


class ServedEpisode:
    """The game of one API key.

    Args:
        plan: what is served; its budget is the key's.
        key: name of the key, which stands for the attacker.
        setup: builds the game. Random streams are the key's own.
        log: gets the episode.
        run: the run it belongs to.
        record: of that run.
        seen: ids of the key's earlier episodes.

    Raises:
        LogError: another server has begun to serve the key meanwhile.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        key: str,
        setup: Setup,
        log: Log,
        *,
        run: str,
        record: RunRecord,
        seen: Collection[str] = (),
    ) -> None:
        plan = _named(plan, key)
        self._plan, self._setup, self._log = plan, setup, log
        streams = Streams(plan.seed).child(f"key/{key}")
        self._parts = GameSetup(plan, setup, streams)
        named, normalisation = setup.normalisation(plan, frozenset(), None)
        self._new_clone, _ = setup.clones(plan, streams, normalisation)
        self._attacker = _Elsewhere()
        self._score: CloneScore | None = None
        name = hashlib.sha256(f"served/{run}/{key}".encode()).hexdigest()[:16]
        told = replace(episode_record(plan, record), kind="served", plan_hash=name)
        self._writer = log.begin_episode(
            run, told, admit=lambda connection: _require_unserved(connection, told, seen)
        )
        self._writer.set_up(
            num_classes=self.game.threat.num_classes,
            exit_names=self._parts.exit_names,
            clone_normalisation=named,
        )
        self._events = EpisodeEvents(self._writer, self.game, ProcessState.capture())
        tape = Tape(log.where, self._writer.id, queries=plan.record == "queries")
        tape.undefended = self._parts.undefended
        self._recorder = Recorder(
            self.game,
            self._attacker,
            self._parts.referee,
            self._writer,
            checkpoints=plan.checkpoints,
            title=f"{key} asks {plan.defender.name}",
            watcher=setup.watcher,
            tape=tape,
            measured=self._parts.measured,
        )
        self.game.add_observers(*self._parts.observers, tape, self._recorder, self)

    @property
    def game(self) -> ExtractionGame:
        """Charges and answers the key's queries."""
        return self._parts.game

    def on_round(self, round: Round) -> None:
        """Write down what was charged before the answer goes out: a kill gives nothing back."""
        game = self.game
        self._writer.charge(game.used)
        if len(game.closed_accounts) == len(game.attacker_clients):
            line = "the defender has cut every account off"
            self._writer.event(CUT_OFF, line, queries_used=game.used)
            self._writer.flush()

    def score(self, file: bytes) -> Mapping[str, float | None]:
        """Score a clone, which ends the attack.

        Args:
            file: weights of the scenario's clone network, as safetensors or a state dict.

        Returns:
            Its accuracy and fidelity on the test images.

        Raises:
            QueryError: it is no such file, or a clone was scored before.
            PlayerError: it answers no finite logits.
        """
        if self._attacker.clone is not None:
            raise QueryError("a clone was handed over already; each key hands over one")
        clone = self._new_clone()
        assert isinstance(clone, Staged)
        with tempfile.TemporaryDirectory() as folder:
            if file[:2] == b"PK":  # state dicts are zip archives
                path, file = Path(folder) / "clone.pt", plain_state_dict(file)
            else:
                path = Path(folder) / "clone.safetensors"
            path.write_bytes(file)
            try:
                take_weights(clone, path)
            except DataMissing as error:
                told = str(error).replace(str(path), "the file")
                raise QueryError(f"{told}; expected weights of {self._plan.clone.use}") from None
        self._writer.event(HANDED_OVER, "handed its clone over", queries_used=self.game.used)
        self._writer.flush()
        self.game.close()
        self._attacker.clone = clone
        self._score = self._recorder.score_clone()
        assert self._score is not None
        return {"clone_accuracy": self._score.accuracy, "clone_fidelity": self._score.fidelity}

    def finish(self) -> EpisodeRow:
        """Measure what there is, and close the episode's row; returns it.

        A fault of the defender's ends this key's episode alone, and is in its row.
        """
        self.game.close()
        outcome = OutcomeRow(queries_used=self.game.used)

        def measure() -> None:
            nonlocal outcome
            self._parts.write_accounts(self._writer)
            tally = self._recorder.close()
            self._parts.tell_refusals(self._writer, tally)
            outcome = self._parts.outcome(self._score, tally)
            outcome = self._parts.with_service(outcome)

        def write_defender() -> None:
            self._events.write_defender(self._parts.defender, self._recorder.used_at)

        def raise_earlier() -> None:
            if self.game.fault is not None:
                raise self.game.fault

        found = map(self._events.fault_of, (raise_earlier, measure, write_defender))
        faults = [one for one in found if one is not None]
        self._recorder.keep_files()
        if self._score is not None:
            write_clone(
                self._plan,
                lambda: self._attacker.clone,
                self._new_clone,
                self._writer,
                where=self._log.where,
                threat=self.game.threat,
                used=self.game.used,
                tell=self._setup.watcher.line,
            )
        self._events.close_row(outcome, faults)
        for one in faults:
            if one.interrupt is not None:
                raise one.interrupt
        return self._log.episode(self._writer.id)
