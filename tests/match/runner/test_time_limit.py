"""An attack that takes too long ends its episode, and what was measured stays."""

import threading
import time

import pytest
import torch

from agents.base import Attacker
from arena.log.store import Log
from arena.runner.match import play
from arena.runner.time_limit import TimeLimit, TimeUp


class Slow(Attacker):
    """Asks for half of the budget, then waits; `patience` times it will not be ended."""

    patience = 0

    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        oracle.query(torch.full((500, *oracle.threat.image_shape), 0.5))
        for _ in range(self.patience):
            try:
                time.sleep(60)
            except BaseException:  # it will not be ended
                continue
        time.sleep(0 if self.patience else 60)


class Stubborn(Slow):
    patience = 3


class Forever(Slow):
    def attack(self, oracle, kit):
        self.clone = kit.new_clone()
        while True:
            oracle.query(torch.full((1, *oracle.threat.image_shape), 0.5))
            time.sleep(0.002)


@pytest.mark.parametrize("player", ["Slow", "Stubborn", "Forever"])
def test_an_attack_ends_at_its_time_and_keeps_what_was_measured(tmp_path, with_attacker, player):
    scenario = with_attacker(player, time_limit=1.0, **{"threat.budget": 1000})
    with Log.open(tmp_path / "log.db") as log:
        began = time.monotonic()
        (row,) = play(scenario, log=log).episodes
        assert time.monotonic() - began < 50
        assert (row.status, row.error) == ("error", "the attack took longer than its 1 s")
        assert 0 < row.queries_used < 1000
        assert row.clone_accuracy is not None
        assert log.rounds(row.id)


def test_a_limit_is_no_part_of_what_is_played(scenario):
    plain, limited = (scenario(None, **more).plans()[0] for more in ({}, {"time_limit": 9}))
    apart = scenario(None, isolation='"process"', memory_limit=2).plans()[0]
    assert plain.hash == limited.hash == apart.hash
    assert "time_limit" not in plain.model_dump()
    assert limited.model_dump()["time_limit"] == 9


def test_the_arena_is_not_broken_off_at_work():
    steps = []

    def work():
        with TimeLimit(0.05, lambda: len(steps) < 1).running():
            time.sleep(0.5)
            steps.append("at work")
            time.sleep(5)
            steps.append("too late")

    with pytest.raises(TimeUp):
        work()
    assert steps == ["at work"]


def test_a_limit_holds_in_other_threads_too():
    ended = []

    def attack():
        try:
            with TimeLimit(0.1, lambda: False).running():
                while True:
                    time.sleep(0.01)
        except TimeUp:
            ended.append(True)

    thread = threading.Thread(target=attack)
    thread.start()
    thread.join(20)
    assert ended == [True]


def test_nothing_is_raised_after_the_attack():
    limit = TimeLimit(0.3, lambda: False)
    with limit.running():
        pass
    time.sleep(0.5)
    assert not limit.over
