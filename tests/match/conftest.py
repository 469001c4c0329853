"""A log filled with made-up episodes, for what reads logs."""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from sqlalchemy import update

from arena.log.content import content_digest
from arena.log.metric import UNTRAINED
from arena.log.outcome import OutcomeRow
from arena.log.rows import (
    CheckpointRow,
    EpisodeRecord,
    EpisodeRow,
    InferenceRow,
    RoundRow,
    RunRecord,
)
from arena.log.store import Log
from arena.log.tables import EPISODE
from arena.recording.tape import Tape
from envs.game.rounds import AnsweredRequest, Countermeasure, Round

FULL_MACS = 1000

OUTCOME = {
    "queries_used": 1000,
    "attack_answered": 1000,
    "benign_answered": 250,
    "clone_fidelity": 0.5,
    "victim_accuracy": 0.95,
    "served_accuracy": 0.93,
    "served_agreement": 0.96,
    "distortion_mean": 0.12,
    "attack_macs_mean": 400.0,
    "benign_macs_mean": 900.0,
    "full_macs": FULL_MACS,
    "attack_compute_share": 0.4,
    "benign_compute_share": 0.9,
    "attack_seconds_mean": 0.001,
    "benign_seconds_mean": 0.002,
    "harden_seconds": 12.5,
}


BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def episode(attacker="dfme", defender="dnf", seed=0, *, num_classes=10, plan=None, **columns):
    """Make the row of a successful play; what is not named was not measured."""
    fixed = dict.fromkeys(("finished", "wall_seconds", "error", "exit_names", "test_overlap",
                           "clone_normalisation"))  # fmt: skip
    return EpisodeRow(
        id=f"{attacker}-{defender}-{seed}", run_id="r", scenario_name="s", plan_hash="h",
        plan=plan or {"seed": seed}, seed=seed, attacker=attacker, defender=defender,
        victim="v", clone="c", data="d", budget=100, num_classes=num_classes, status="success",
        started=BEGAN, heartbeat=BEGAN, pid=1, host="h", process_started="p", **fixed, **columns,
    )  # fmt: skip


@pytest.fixture(scope="session")
def episode_row():
    """Make the row of an episode that no log holds."""
    return episode


def reseal(connection, id):
    """Digest an episode anew, as if all of it had been there at its end."""
    digest = content_digest(connection, id)
    connection.execute(update(EPISODE).where(EPISODE.c.id == id).values(content_digest=digest))


def _half(counts):
    """Halve the images of each exit; of one defence, or of several."""
    rows = counts if isinstance(counts[0], tuple) else (counts,)
    return tuple(tuple(count // 2 for count in row) for row in rows)


def _total(counts):
    return sum(map(sum, counts)) if isinstance(counts[0], tuple) else sum(counts)


def asking(images):
    """Make a round in which an attacker asked images, without its answer."""
    request = AnsweredRequest(images, 0, Countermeasure(), torch.empty(0), torch.empty(0))
    return Round(0, request, (), torch.empty(0))


class MadeUp:
    """Writes made-up episodes through the log's own writer."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def play(
        self,
        attacker="dfme",
        defender="dnf",
        seed=0,
        *,
        clone=0.5,
        status="success",
        error=None,
        scenario="made-up",
        text='name = "made-up"',
        command="arena run made-up.toml",
        curve=((250, 0.5), (500, 0.8), (1000, 1.0)),
        exits=((600, 300, 100), (20, 30, 200)),
        inferences=(),
        events=(),
        asked=(),
        taped=(),
        countermeasures=(None, None),
        plan=None,
        kind="play",
        named=None,
        budget=1000,
        num_classes=10,
        untrained=0,
        **outcome,
    ):
        """Write one episode.

        `curve` gives the share of the final accuracy at each checkpoint, of which the clone was
        not yet trained at so many of the first; `asked` the queries of
        which a sample is kept, as pairs of a ledger and (n, c, h, w) images; `taped` rounds whose
        queries are kept, with a uniform answer as the undefended one; `named` other names of
        victim, clone and data. Without `num_classes` the game was never set up.
        """
        names = {"victim": "resnet10", "clone": "resnet10", "data": "digits", **(named or {})}
        plan = {"seed": seed, "threat": {"budget": 1000}, **(plan or {})}
        key = json.dumps([scenario, attacker, defender, plan, names], sort_keys=True)
        run = self.log.begin_run(
            RunRecord(
                command=command,
                scenario_name=scenario,
                scenario_text=text,
                versions={"torch": "2.6"},
                git_commit="a" * 40,
                host="secret-host",
            )
        )
        writer = self.log.begin_episode(
            run,
            EpisodeRecord(
                scenario_name=scenario,
                plan_hash=hashlib.sha256(key.encode()).hexdigest(),
                plan=plan,
                seed=seed,
                attacker=attacker,
                defender=defender,
                **names,
                budget=budget,
                kind=kind,
                versions={"torch": "2.6"},
                git_commit="a" * 40,
                device="cpu",
            ),
        )
        if num_classes is not None:
            writer.set_up(num_classes=num_classes, exit_names=[["stage 1", "whole network"]])
        for index, (queries, share) in enumerate(curve):
            writer.checkpoint(
                CheckpointRow(
                    index=index,
                    queries_used=queries,
                    wall_seconds=float(index),
                    clone_accuracy=None if clone is None else clone * share,
                    metrics={UNTRAINED: 1.0} if index < untrained else {},
                )
            )
        if exits is not None:
            attack, benign = exits
            for bucket in range(2):  # two equal buckets, so that sums are taken
                writer.round(
                    RoundRow(
                        bucket=bucket,
                        first_round=bucket,
                        rounds=1,
                        attack_answered=_total(attack) // 2,
                        benign_answered=_total(benign) // 2,
                        queries_used=500 * (bucket + 1),
                        attack_macs=_total(attack) // 2 * 400,
                        benign_macs=_total(benign) // 2 * 900,
                        attack_exits=_half(attack),
                        benign_exits=_half(benign),
                        countermeasure=countermeasures[bucket],
                    )
                )
        for inference in inferences:
            writer.inference(InferenceRow(**inference))
        for event_kind, message, data in events:
            writer.event(event_kind, message, queries_used=10, **data)
        if asked or taped:
            tape = Tape(self.log.where, writer.id, queries=bool(taped))
            tape.undefended = lambda images: torch.full((len(images), 4), 0.25)
            for round in taped:
                tape.on_round(round)
            for used, images in asked:
                tape.on_round(asking(images))
                tape.sample(used)
            tape.close()
            for row in tape.finished():
                writer.artifact(row)
        if status == "started":
            writer.flush()
        else:
            row = OutcomeRow(**{**OUTCOME, "clone_accuracy": clone, **outcome})
            writer.finish(status, row, error=error)
        return writer.id


@pytest.fixture
def made_up(tmp_path: Path) -> Iterator[MadeUp]:
    """An empty log that takes made-up episodes."""
    with Log.open(tmp_path / "arena.db") as log:
        yield MadeUp(log)


@pytest.fixture(scope="module")
def shared_made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MadeUp]:
    """An empty log that all tests of a file share."""
    with Log.open(tmp_path_factory.mktemp("log") / "arena.db") as log:
        yield MadeUp(log)
