"""What tests of isolated play share: one way to play a scenario both ways."""

from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import load

HIDDEN = {
    "id", "run_id", "pid", "host", "process_started", "started", "finished", "time", "wall_seconds",
    "harden_seconds", "attack_seconds", "benign_seconds", "attack_seconds_mean",
    "benign_seconds_mean", "path", "plan", "episode_id", "heartbeat", "content_digest",
}  # fmt: skip
"""What two plays of one plan may differ in: times, names, and the way it was played."""


def account(log, row):
    """Everything that a log says of an episode, but for `HIDDEN` and the process's own state."""
    parts = {
        "episode": [row],
        "rounds": log.rounds(row.id),
        "checkpoints": log.checkpoints(row.id),
        "inferences": log.inferences(row.id),
        "events": [event for event in log.events(row.id) if event.kind != "process-state"],
    }
    return {
        name: [{k: v for k, v in asdict(row).items() if k not in HIDDEN} for row in rows]
        for name, rows in parts.items()
    }


@pytest.fixture
def both_ways(tmp_path, tiny_file):
    """Play a scenario trusted and isolated; gives both accounts."""

    def run(**changes):
        accounts = []
        for isolation in ("none", "process"):
            scenario = load(str(tiny_file(isolation=isolation, **changes)))
            with Log.open(tmp_path / f"{isolation}.db") as log:
                (row,) = play(scenario, log=log).episodes
                assert row.status == "success", row.error
                accounts.append(account(log, row))
        return accounts

    return run


PAGE = Path(__file__).parents[3] / "docs" / "promises.md"
ANSWERS = {"nothing": False, "all of it": True}


class Promise(NamedTuple):
    """A row of the table in docs/promises.md; True where a cheat gets what it tries for."""

    where: str
    trusted: bool
    isolated: bool


@pytest.fixture(scope="session")
def promises():
    """The rows of the table of docs/promises.md, by the name of the cheat."""
    rows = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 5:
            name, _, where, trusted, isolated = cells
            rows[name.strip("`")] = Promise(where, ANSWERS[trusted], ANSWERS[isolated])
    return rows


class Makes(TorchDispatchMode):
    """Keeps how large the tensors are that take memory."""

    def __init__(self):
        super().__init__()
        self.largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.device.type != "meta":
            self.largest = max(self.largest, made.numel())
        return made
