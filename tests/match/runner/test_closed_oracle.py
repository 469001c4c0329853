"""An oracle is open while `attack` runs, and closed while anything is scored."""

import contextlib
import threading
import time

import pytest
import torch
from torch import nn

from agents.base import Attacker
from agents.oracle_wrappers.averaging import Repeated
from arena.log.store import Log
from arena.runner import episode as episodes
from arena.runner.match import play
from envs.errors import QueryError
from envs.game import access


class Asking(nn.Module):
    """A clone that asks the victim for what it is tested on."""

    def __init__(self, oracle, ask):
        super().__init__()
        self.oracle, self.ask = oracle, ask

    def forward(self, images):
        answers = torch.zeros(len(images), 10)
        try:
            asked = images[: self.oracle.remaining]
            answers[: len(asked)] = self.ask(self.oracle, asked)
        except QueryError:
            pass
        return answers


def straight(oracle, images):
    return oracle.query(images).posteriors


def by_thread(oracle, images):
    got = []

    def ask():
        with contextlib.suppress(QueryError):
            got.append(oracle.query(images).posteriors)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    return got[0] if got else 0


class Cheat(Attacker):
    """Spends 600 of 1,000 queries, and lets its clone ask with the rest."""

    ask = staticmethod(straight)

    def attack(self, oracle, kit):
        self.clone = Asking(oracle, self.ask)
        for _ in range(12):
            oracle.query(torch.rand(50, *oracle.threat.image_shape, generator=kit.generator))


class ThreadCheat(Cheat):
    ask = staticmethod(by_thread)


class WrappedCheat(Cheat):
    def attack(self, oracle, kit):
        super().attack(Repeated(oracle, 1, generator=kit.generator), kit)


class FailingCheat(Cheat):
    def attack(self, oracle, kit):
        super().attack(oracle, kit)
        raise ValueError("enough")


class Lingering(Attacker):
    """Leaves a thread behind that goes on asking after `attack` returned."""

    def attack(self, oracle, kit):
        image = torch.full((1, *oracle.threat.image_shape), 0.5)

        def linger():
            try:
                while True:
                    oracle.query(image)
            except QueryError:
                pass

        threading.Thread(target=linger).start()
        oracle.query(image)


class Open(Attacker):
    """Asks from its clone without looking at errors."""

    def attack(self, oracle, kit):
        class Careless(nn.Module):
            def forward(self, images):
                return oracle.query(images[:1]).posteriors.expand(len(images), -1)

        oracle.query(torch.full((8, *oracle.threat.image_shape), 0.5))
        self.clone = Careless()


@pytest.fixture
def played(tmp_path, with_attacker, monkeypatch):
    """Play an attacker of this module; gives its row, and what came of each query."""
    real, outcomes = episodes.GameOracle, []

    class Recording(real):
        __slots__ = ()

        def query(self, images):
            try:
                response = super().query(images)
            except QueryError as error:
                outcomes.append(str(error))
                raise
            outcomes.append(len(response.posteriors))
            return response

    monkeypatch.setattr(access, "WAIT_SECONDS", 5.0)

    def run(player, **overrides):
        monkeypatch.setattr(episodes, "GameOracle", Recording)
        with Log.open(tmp_path / "log.db") as log:
            (row,) = play(with_attacker(player, **overrides), log=log).episodes
        return row, outcomes

    return run


@pytest.mark.parametrize("player", ["Cheat", "ThreadCheat", "WrappedCheat", "FailingCheat"])
def test_a_clone_that_asks_the_victim_is_scored_without_answers(played, player):
    row, outcomes = played(player)
    assert row.status == ("error" if player == "FailingCheat" else "success")
    assert row.queries_used == row.attack_answered == 600
    assert [one for one in outcomes if isinstance(one, int)] == [50] * 12
    refused = [one for one in outcomes if isinstance(one, str)]
    assert not any("waited" in one for one in refused)
    # at the checkpoints of 250 and 500 queries, and at the end at the last one and on the test set
    assert ["closed" in one or "being scored" in one for one in refused] == [True] * 4
    if row.status == "success":
        assert row.clone_accuracy < 0.2


def test_a_clone_that_asks_and_hides_no_error_ends_the_episode(played):
    row, outcomes = played("Open")
    assert (row.status, row.queries_used) == ("error", 8)
    assert "a clone that is being scored" in row.error
    assert isinstance(outcomes[-1], str)


def test_a_thread_that_asks_after_the_attack_gets_an_error(played):
    row, outcomes = played("Lingering")
    until = time.monotonic() + 10
    while not isinstance(outcomes[-1], str) and time.monotonic() < until:
        time.sleep(0.01)
    assert "the attack is over" in outcomes[-1]
    assert row.status == "success"
    assert row.queries_used == row.attack_answered == len(outcomes) - 1
