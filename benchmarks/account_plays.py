"""Plays attackers against the bare victim for the tables of accounts, and watches their clones."""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor

from agents.attackers.dfme import DFME
from agents.attackers.knockoff import Knockoff
from agents.base import Attacker, Kit
from agents.defenders.static import Static
from benchmarks.detector_table import CPU, _clone
from envs.data.sources import load, load_pool
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.game.rounds import Observer, Round
from envs.seeding import Streams
from envs.types import ThreatModel
from envs.victim.victim import Victim

LOOKS = list(range(50, 2001, 50))
ATTACKS: dict[str, tuple[int, int, Callable[[], Attacker]]] = {
    # budget, and queries between two looks at the clone
    "knockoff": (2000, 50, partial(Knockoff, request=64, budgets=LOOKS)),
    "dfme": (60_000, 1000, partial(DFME, batch=64, clone_rate=0.1, generator_rate=1e-4)),
}


class Play:
    """What an attacker asks of the bare victim, and how good its clone is along the way.

    Attributes:
        asked: requests, in their order.
        seen: queries and the accuracy of the clone by then, at each look.
    """

    def __init__(self, attacker: Attacker, every: int) -> None:
        self._attacker, self._every = attacker, every
        self.asked: list[Tensor] = []
        self.seen: list[tuple[int, float]] = []
        self._count = self._looked = 0

    def on_round(self, round: Round) -> None:
        """Keep a request; before it, the clone has learnt all that was answered."""
        if self._count - self._looked >= self._every:
            self.look()
        self.asked.append(round.attack.images.clone())
        self._count += len(round.attack.images)

    def look(self) -> None:
        """Measure the clone as it is."""
        self._looked = self._count
        assert self._attacker.clone is not None
        self.seen.append((self._count, accuracy(self._attacker.clone)))

    def needed(self, share: float, whole: float) -> int | None:
        """Return the queries until the clone had a share of an accuracy; None where never."""
        return next((count for count, found in self.seen if found >= share * whole), None)


def accuracy(network: torch.nn.Module) -> float:
    """Measure a network on the test digits, and leave it as it was."""
    test, training = load("digits").test, network.training
    with torch.inference_mode():
        found = network.eval()(test.images()).argmax(1) == test.labels
    network.train(training)
    return float(found.double().mean())


def played(served: Victim, name: str, seed: int) -> Play:
    """Let an attacker play against the bare victim, and look at its clone along the way."""
    budget, every, make = ATTACKS[name]
    attacker = make()
    play = Play(attacker, every)
    attack_bare(served, attacker, play, budget=budget, seed=seed)
    play.look()
    return play


def attack_bare(
    served: Victim, attacker: Attacker, observer: Observer, *, budget: int, seed: int
) -> None:
    """Let an attacker play against the bare victim, with drawn strokes as its pool."""
    streams = Streams(seed)
    game = ExtractionGame(
        ThreatModel(10, (1, 8, 8), budget),
        [DeployedDefence("undefended", Defence(), served)],
        Static(),
        clock=make_clock("none", streams),
        streams=streams,
    )
    game.add_observers(observer)
    pool = load_pool("strokes", image_shape=(1, 8, 8), count=6000, generator=Streams(0).torch("s"))
    new_clone = partial(_clone, streams.torch("clone"))
    kit = Kit(CPU, streams.torch("attacker"), new_clone, surrogate_pool=pool)
    with suppress(BudgetExhausted):
        attacker.attack(GameOracle(game), kit)
