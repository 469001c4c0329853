"""Cheats of defenders, and of what an attacker leaves behind, against docs/promises.md."""

import contextlib
import sys
import threading
import time

import pytest
import torch

from agents.base import Attacker, Defender, Note
from arena.log.store import Log
from arena.runner.match import play
from arena.scenario import load
from envs.errors import ArenaError
from envs.game.rounds import Countermeasure

WAYS = {"trusted": "none", "isolated": "process"}


class Lingering(Attacker):
    """Asks for 300 answers, and leaves a thread that asks on once `attack` has returned."""

    def attack(self, oracle, kit):
        images = torch.full((300, *oracle.threat.image_shape), 0.5)
        caller = threading.get_ident()

        def attacks():
            frame = sys._current_frames().get(caller)
            while frame is not None and frame.f_code is not Lingering.attack.__code__:
                frame = frame.f_back
            return frame is not None

        def linger():
            until = time.monotonic() + 60
            while attacks() and time.monotonic() < until:
                time.sleep(0.001)
            with contextlib.suppress(ArenaError, OSError):
                oracle.query(images)

        oracle.query(images)
        self.clone = kit.new_clone()
        threading.Thread(target=linger, daemon=True).start()


class ByNumber(Defender):
    """Takes client 0 for the attacker, and -1 for the referee, who gets true answers alone."""

    def begin(self, kit):
        self.seen = set()

    def act(self, view):
        self.seen.add(view.client)
        return Countermeasure(strength=0.0 if view.client == -1 else 1.0)

    def notes(self):
        return [
            Note("cheat", name, 0, {"got": number in self.seen})
            for name, number in (("knows_the_attacker", 0), ("knows_the_referee", -1))
        ]


@pytest.mark.parametrize("way", ["trusted", pytest.param("isolated", marks=pytest.mark.slow)])
def test_numbers_tell_nothing_and_an_attack_that_is_over_asks_no_more(
    tmp_path, tiny_file, promises, way
):
    path = tiny_file(
        isolation=WAYS[way],
        attackers=[{"use": f"{__file__}:Lingering"}],
        defenders=[{"use": f"{__file__}:ByNumber", "defence": "reverse-sigmoid"}],
    )
    with Log.open(tmp_path / "a.db") as log:
        (row,) = play(load(str(path)), log=log).episodes
        events = log.events(row.id)
    # a message of an isolated attacker that comes when its clone is due breaks the protocol
    assert row.status == "success" or way == "isolated", row.error
    got = {event.message: event.data["data"]["got"] for event in events if event.kind == "cheat"}
    # who serves the referee alone well would serve it as the undefended victim does
    got["knows_the_referee"] |= row.distortion_mean == 0.0
    got["asks_afterwards"] = (row.queries_used, row.attack_answered) != (300, 300)
    assert got == {name: getattr(promises[name], way) for name in got}
    assert len(got) == 3
