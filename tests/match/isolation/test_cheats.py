"""Cheats that run in an attacker's process, played both ways against docs/promises.md."""

import os
import socket
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from agents.base import Kit
from arena.evaluation.referee import Referee
from arena.isolation import attacker as isolated
from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import load

CHEATS = Path(__file__).with_name("cheats.py")
ENDINGS = ("exits", "kills_itself", "reads_nowhere", "says_goodbye")
WAYS = {"trusted": "none", "isolated": "process"}


@pytest.fixture
def played(tmp_path, tiny_file, monkeypatch):
    """Play an attacker of `cheats`; gives its row and its notes."""

    def run(player, way, **changes):
        params = changes.pop("params", {})
        scenario = load(
            str(
                tiny_file(
                    isolation=WAYS[way],
                    attackers=[{"use": f"{CHEATS}:{player}", "params": params}],
                    **changes,
                )
            )
        )
        scenario.check()
        with Log.open(tmp_path / "cheats.db") as log:
            (row,) = play(scenario, log=log).episodes
            return row, log.events(row.id), log.checkpoints(row.id)

    return run


@contextmanager
def typed_in_the_terminal():
    """Let standard error be a terminal in which somebody has typed a line."""
    before, (typing, shown) = os.dup(2), os.openpty()
    os.dup2(shown, 2)
    os.write(typing, b"a password\n")
    try:
        yield
    finally:
        os.dup2(before, 2)
        for file in (before, typing, shown):
            os.close(file)


@pytest.mark.parametrize("way", WAYS)
def test_what_code_in_the_attackers_process_gets(played, promises, tmp_path, monkeypatch, way):
    monkeypatch.delenv("ARENA_CHEAT_IMPORT", raising=False)
    monkeypatch.setenv("ARENA_LOG", str(tmp_path / "cheats.db"))
    for name in ("score", "score_checkpoint"):
        monkeypatch.setattr(Referee, name, getattr(Referee, name))
    cached, data = Path(os.environ["ARENA_CACHE"]) / "secret-victim", tmp_path / "images"
    for file in (cached, data):
        file.write_bytes(b"secret")
    with socket.create_server(("127.0.0.1", 0)) as server, typed_in_the_terminal():
        lent = {
            "log": tmp_path / "cheats.db", "cached": cached, "data": data, "folder": tmp_path,
            "referee": os.getpid(), "port": server.getsockname()[1],
        }  # fmt: skip
        told = ";".join(f"{name}={value}" for name, value in lent.items())
        row, events, measured = played("Cheats", way, params={"lent": told},
                             threat={"labels": "hard"}, memory_limit=2)  # fmt: skip
    got = {event.message: event.data["data"]["got"] for event in events if event.kind == "cheat"}
    got["referee"] = any(one.clone_accuracy == 1.0 for one in measured)
    got["own_code"] = Kit.note is None
    got["optimizers"] = torch.optim.Adam.step.__name__ != "step"
    got["hooks"] = bool(torch.nn.modules.module._global_forward_hooks)
    got["modes"] = torch._C._len_torch_function_stack() > 0
    got["gradients"] = not torch.is_grad_enabled()
    got["functions"] = torch.nn.functional.relu is None
    got["import"] = "ARENA_CHEAT_IMPORT" in os.environ
    assert row.status == "success", row.error
    assert row.clone_accuracy < 1.0  # the final score is taken with our own code in place
    table = {name: row for name, row in promises.items() if row.where == "process"}
    assert got == {name: getattr(row, way) for name, row in table.items()}


@pytest.mark.slow
@pytest.mark.parametrize("how", ENDINGS)
def test_an_attacker_that_ends_its_process_ends_its_episode_alone(played, promises, how):
    row, *_ = played("Ending", "isolated", params={"how": how})
    assert not promises[how].isolated
    assert (row.status, row.queries_used) == ("error", 300)
    assert (
        row.error
        == {
            "exits": "the attacker's process ended by itself, with exit code 3",
            "kills_itself": "the attacker's process was ended by SIGKILL",
            "reads_nowhere": "the attacker's process was ended by SIGSEGV",
            "says_goodbye": "SystemExit: bad",
        }[how]
    )
    assert row.clone_accuracy is not None  # of the last checkpoint


@pytest.mark.slow
def test_an_isolated_attacker_that_will_not_end_is_ended(played, promises, monkeypatch):
    monkeypatch.setattr(isolated, "GRACE", 1.0)
    row, *_ = played("Ending", "isolated", params={"how": "never_ends"}, time_limit=5)
    assert not promises["never_ends"].isolated
    assert (row.status, row.error) == ("error", "the attack took longer than its 5 s")
    assert row.clone_accuracy is not None
    assert row.queries_used == 300


@pytest.mark.slow
def test_a_clone_that_asks_is_not_handed_over(played, promises):
    row, *_ = played("Ending", "isolated", params={"how": "asks_in_forward"})
    assert not promises["asks_in_forward"].isolated
    assert row.queries_used == row.attack_answered == 300
    assert row.status == "error"
    assert "what torch.export can export" in row.error
    assert row.clone_accuracy is None
