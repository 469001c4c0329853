"""Fills a log with thousands of small episodes, as a match would have written them."""

import os
import platform
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, insert, update

from arena.log.content import content_digests
from arena.log.engine import transaction
from arena.log.rows import RunRecord
from arena.log.store import Log, episode_id
from arena.log.tables import CHECKPOINT, EPISODE, EVENT, INFERENCE, ROUND

# `Any` in this file: rows as the database takes them, each column with its own type.

SIDE = 10
"""Attackers that meet as many defenders."""

POINTS = 5
"""Buckets of rounds of an episode, and checkpoints."""

BUDGET, FULL_MACS = 1000, 1000

_START = datetime(2026, 1, 1, tzinfo=UTC)

_TABLES = (ROUND, CHECKPOINT, INFERENCE, EVENT)


def fill(path: Path, count: int) -> None:
    """Put so many finished episodes into a log, each of 14 rows, sealed by their digests.

    Ten attackers meet ten defenders, each pair on as many seeds as there is room for.
    """
    with Log.open(path) as log:
        run = log.begin_run(RunRecord(command="full_log", scenario_name="speed"))
        rows = [_episode(run, number) for number in range(count)]
        with transaction(log.engine) as connection:
            connection.execute(insert(EPISODE), rows)
            for kind in _TABLES:
                said = [one for row in rows for one in _rows_of(kind.name, row)]
                connection.execute(insert(kind), said)
            _seal(connection, [row["id"] for row in rows])


def _seal(connection: Connection, ids: list[str]) -> None:
    column = EPISODE.c
    digests = content_digests(connection, ids)
    values = [{"which": id, "digest": digest} for id, digest in digests.items()]
    query = update(EPISODE).where(column.id == bindparam("which"))
    connection.execute(query.values(content_digest=bindparam("digest")), values)


def _episode(run: str, number: int) -> dict[str, Any]:
    """Make the row of one episode; scores are better for later attackers and defenders."""
    seed, meeting = divmod(number, SIDE * SIDE)
    attack, defence = divmod(meeting, SIDE)
    began = _START + timedelta(seconds=number)
    generator = np.random.default_rng(number)
    accuracy = 0.2 + 0.06 * attack - 0.01 * defence + 0.03 * generator.standard_normal()
    names = {
        "attacker": f"attacker-{attack}",
        "defender": f"defender-{defence}" if defence else "undefended",
    }
    params = {"batch": 128, "clone_rate": 0.1}
    plan = {
        "rules": 4, "scenario": "speed", "seed": seed,
        "data": {"use": "digits", "params": {}, "root": None},
        "victim": {"use": "resnet10-half", "params": {}, "recipe": {}, "seed": None},
        "clone": {"use": "conv-small", "params": {}}, "checkpoints": POINTS, "record": "digests",
        "threat": {"budget": BUDGET, "labels": "soft", "latency": "none", "pool": None},
        "traffic": {"benign": 0.25, "ood_share": 0.0, "ood": None, "clients": 1},
        "attacker": {"name": names["attacker"], "use": "dfme", "params": params, "code": ""},
        "defender": {"name": names["defender"], "use": "static", "defence": [{"use": "dnf"}]},
    }  # fmt: skip
    return {
        "id": episode_id(run, f"{number:016x}"), "run_id": run, "kind": "play",
        "scenario_name": "speed", "plan_hash": f"{number:016x}", "plan": plan, "seed": seed,
        **names, "attacker_params": params, "defender_params": plan["defender"],
        "victim": "resnet10-half", "clone": "conv-small", "data": "digits", "budget": BUDGET,
        "num_classes": 10, "exit_names": [["stage 1", "stage 2", "whole network"]],
        "status": "success", "started": began, "finished": began + timedelta(seconds=60),
        "wall_seconds": 60.0, "pid": os.getpid(), "host": platform.node(), "process_started": "",
        "heartbeat": began + timedelta(seconds=60), "device": "cpu",
        "versions": {"torch": "2.6", "numpy": "2.0", "python": "3.11"},
        "queries_used": BUDGET, "attack_answered": BUDGET, "benign_answered": BUDGET // 4,
        "clone_accuracy": round(float(np.clip(accuracy, 0, 1)), 4), "clone_fidelity": 0.5,
        "victim_accuracy": 0.95, "served_accuracy": 0.94 - 0.01 * defence,
        "distortion_mean": 0.02 * defence, "attack_macs_mean": 400.0, "benign_macs_mean": 900.0,
        "full_macs": FULL_MACS, "attack_compute_share": 0.4, "benign_compute_share": 0.9,
        "query_digest": "0123456789abcdef", "answer_digest": "fedcba9876543210",
    }  # fmt: skip


def _rows_of(table: str, episode: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Make the rows of one table that an episode with such an outcome would have."""
    mine, asked = {"episode_id": episode["id"]}, BUDGET // POINTS
    if table == "event":
        yield mine | {
            "time": episode["started"],
            "kind": "victim",
            "message": "taken from the cache",
            "data": {"seconds": 0},
        }
    if table == "inference":
        right = episode["seed"] % 3 > 0
        yield mine | {
            "attribute": "family",
            "inferred": "resnet" if right else "vgg",
            "truth": "resnet",
            "correct": right,
            "confidence": 0.7,
        }
        yield mine | {
            "attribute": "depth",
            "inferred": None,
            "truth": 10,
            "correct": None,
            "confidence": None,
        }
    for point in range(POINTS):
        used = asked * (point + 1)
        if table == "round":
            yield mine | {
                "bucket": point, "first_round": 4 * point, "rounds": 4, "attack_answered": asked,
                "benign_answered": asked // 4, "queries_used": used,
                "attack_exits": [[asked - 60, 40, 20]], "benign_exits": [[5, 5, asked // 4 - 10]],
                "attack_macs": 400 * asked, "benign_macs": 900 * (asked // 4),
                "attack_seconds": 0.25, "benign_seconds": 0.5, "benign_correct": asked // 4 - 3,
                "query_digest": "0123456789abcdef", "answer_digest": "fedcba9876543210",
            }  # fmt: skip
        if table == "checkpoint":
            accuracy = 0.1 + (episode["clone_accuracy"] - 0.1) * (point + 1) / POINTS
            yield mine | {
                "index": point,
                "queries_used": used,
                "wall_seconds": 10.0 * point,
                "clone_accuracy": max(0.0, accuracy),
                "clone_fidelity": 0.5,
                "metrics": {},
            }
