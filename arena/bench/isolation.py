"""What a process of its own costs an attacker: DFME's loop isolated, to the same loop trusted.

Both loops ask the same oracle in this process. An iteration lasts from one of the generator's
queries to the next; the first of a loop, which also loads and allocates, is left out. Compared are
the wall clock, and the time on processors, the attacker's process included: the latter says more
on a busy machine, and is blind to waiting.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import NamedTuple

import psutil
import torch
from torch import Tensor, nn

from agents.attackers.dfme import DFME
from agents.base import Attacker, Kit
from arena.bench.overhead import new_oracle
from arena.bench.subjects import CLASSES, SHAPE, generator, plain
from arena.bench.timing import Line, ratios, spread
from arena.isolation.attacker import Contestant, IsolatedAttacker
from arena.isolation.job import Network, Player
from arena.isolation.launch import require_linux
from envs.nets import registry
from envs.oracle import Oracle
from envs.types import Response, ThreatModel
from envs.victim.victim import Victim

GROUP = "isolation"
TARGET = 1.05
CLONE = "resnet18-8x"
_MEMORY = 16 * 2**30


class Seconds(NamedTuple):
    """Moments or durations, by the wall clock and on processors."""

    wall: float
    processor: float


def moment() -> Seconds:
    """Read the wall clock, and the processor time of this process and of those it started."""
    apart = 0.0
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it ended since
            times = child.cpu_times()
            apart += times.user + times.system
    return Seconds(perf_counter(), process_time() + apart)


class TimedOracle:
    """Passes requests on, and notes when requests of some size came.

    Args:
        oracle: answers.
        size: of the requests that are noted.

    Attributes:
        moments: when they came.
    """

    def __init__(self, oracle: Oracle, size: int) -> None:
        self._oracle, self._size = oracle, size
        self.moments: list[Seconds] = []

    @property
    def threat(self) -> ThreatModel:
        """What may be asked."""
        return self._oracle.threat

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        return self._oracle.remaining

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for answers."""
        if len(images) == self._size:
            self.moments.append(moment())
        return self._oracle.query(images, account)

    def iterations(self) -> list[Seconds]:
        """Return the seconds between noted requests, the first left out."""
        pairs = zip(self.moments[1:], self.moments[2:], strict=False)
        return [
            Seconds(after.wall - before.wall, after.processor - before.processor)
            for before, after in pairs
        ]


def measure(
    *, rounds: int = 3, iterations: int = 2, batch: int = 256, width: float = 0.25
) -> list[Line]:
    """Measure iterations and the start of the process.

    Args:
        rounds: loops of each kind, in turn.
        iterations: that count of one loop; two more are played.
        batch: images per step of DFME.
        width: factor on the channels of victim and clone, both ResNet18-8x.

    Raises:
        ScenarioError: this system has no isolated play.
    """
    require_linux()
    victim = Victim(plain(CLONE, width))
    trusted, isolated, starts = [], [], []
    for _ in range(rounds):
        trusted.append(_loop(partial(DFME, batch=batch), victim, batch, width, iterations)[0])
        seconds, start = _loop(partial(_apart, batch, width), victim, batch, width, iterations)
        isolated.append(seconds)
        starts.append(start)
    begin = spread(starts)
    sizes = f"ResNet18-8x of width {width:g} on itself, batch {batch}"
    loop = "DFME's loop in a process of its own to the loop in this one"
    compared = {
        loop: ratios([one.wall for one in isolated], [one.wall for one in trusted]),
        f"{loop}, by processor time": ratios(
            [one.processor for one in isolated], [one.processor for one in trusted]
        ),
    }
    return [
        *(
            Line(GROUP, name, ratio.median, "x", ratio.low, ratio.high, target=TARGET,
                 at_least=False, note=sizes)
            for name, ratio in compared.items()
        ),
        Line(GROUP, "the start of that process", begin.median, "s", begin.low, begin.high,
             note="once an episode; no part of the attacker's time"),
    ]  # fmt: skip


def _loop(
    make: Callable[[], Attacker], victim: Victim, batch: int, width: float, iterations: int
) -> tuple[Seconds, float]:
    """Play a loop; returns the median seconds of an iteration, and those of the start."""
    attacker = make()
    cost = 7 * batch  # two queries of the generator's step and five of the clone's, for each image
    kit = Kit(
        device=torch.device("cpu"),
        generator=generator(3),
        new_clone=partial(_clone, width, generator()),
    )
    with new_oracle(victim, (iterations + 2) * cost) as oracle:
        timed = TimedOracle(oracle, 2 * batch)
        began = perf_counter()
        if isinstance(attacker, IsolatedAttacker):
            attacker.start(timed, kit)
        start = perf_counter() - began
        try:
            attacker.attack(timed, kit)
        finally:
            if isinstance(attacker, IsolatedAttacker):
                attacker.close()
    return Seconds(*(median(one) for one in zip(*timed.iterations(), strict=True))), start


def _apart(batch: int, width: float) -> IsolatedAttacker:
    chance = generator()
    return IsolatedAttacker(
        Contestant(
            attacker=Player("dfme", {"batch": batch}),
            name="dfme",
            wrappers=(),
            clone=Network(CLONE, {"width": width}, (0.0,) * SHAPE[0], (1.0,) * SHAPE[0]),
            new_network=partial(_clone, width, generator()),
            clones=chance,
            files=(),
            memory=_MEMORY,
            note=lambda gap: None,
        )
    )


def _clone(width: float, chance: torch.Generator) -> nn.Module:
    return registry.build(
        CLONE, num_classes=CLASSES, image_shape=SHAPE, generator=chance, width=width
    )
