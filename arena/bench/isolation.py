"""What a process of its own costs an attacker: DFME's loop isolated, to the same loop trusted.

Both loops ask games of the same victim in this process, and iterate in turn: while the isolated
attacker waits for the answer to its generator's query, the trusted one plays an iteration. An
iteration of the isolated loop lasts from the answer to that query to the next such query. The first
of each, which also loads and allocates, is left out. Compared are the wall clock, and the time on
processors, the attacker's process included: the latter says more on a busy machine, and is blind
to waiting.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import psutil
import torch
from torch import Tensor, nn

from agents.attackers.dfme import DFME
from agents.base import Kit
from arena.bench.overhead import new_oracle
from arena.bench.subjects import CLASSES, SHAPE, Shape, generator, plain
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
_MEMORY = 16 * 2**30
_PROCESSOR_TIME = 2  # the kind of clock, as clock_getcpuclockid(3) writes it into a number


class Subject(NamedTuple):
    """What is attacked, on itself, and over how many iterations of each loop.

    Attributes:
        network, width, shape: of victim and clone, and of the images.
        iterations: that count; one more of each loop is played.
    """

    network: str
    width: float
    shape: Shape
    iterations: int

    def __str__(self) -> str:
        size = "x".join(map(str, self.shape))
        width = "" if self.width == 1.0 else f" of width {self.width:g}"
        return f"{self.network}{width} on {size}"

    @property
    def options(self) -> dict[str, Any]:  # `Any`: each network takes its own
        """What the network's registry is told beside its name."""
        return {} if self.width == 1.0 else {"width": self.width}

    def clone(self, chance: torch.Generator) -> nn.Module:
        """Draw a clone."""
        return registry.build(
            self.network,
            num_classes=CLASSES,
            image_shape=self.shape,
            generator=chance,
            **self.options,
        )


SUBJECTS = (
    Subject("conv-small", 1.0, (1, 8, 8), 80),
    Subject("resnet18-8x", 0.25, SHAPE, 6),
)
SMALLEST = Subject("conv-small", 1.0, (1, 8, 8), 3)


class Seconds(NamedTuple):
    """Moments or durations, by the wall clock and on processors."""

    wall: float
    processor: float

    def since(self, start: "Seconds") -> "Seconds":
        """Return what passed from one moment to this."""
        return Seconds(self.wall - start.wall, self.processor - start.processor)


def moment(others: Sequence[int] = ()) -> Seconds:
    """Read the wall clock, and the processor time of this process and of others by their ids."""
    apart = sum(time.clock_gettime(~number << 3 | _PROCESSOR_TIME) for number in others)
    return Seconds(time.perf_counter(), time.process_time() + apart)


class PausingOracle:
    """Passes requests on, and lets something else run before it answers those of some size.

    Args:
        oracle: answers.
        size: of the requests before whose answer there is a pause.
        meanwhile: runs in the pause.

    Attributes:
        between: what passed from each pause to the next.
        paused: how long the pauses took.
    """

    def __init__(self, oracle: Oracle, size: int, meanwhile: Callable[[], None]) -> None:
        self._oracle, self._size, self._meanwhile = oracle, size, meanwhile
        self._others: list[int] = []
        self._since: Seconds | None = None
        self.between: list[Seconds] = []
        self.paused: list[Seconds] = []

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
            self._pause()
        return self._oracle.query(images, account)

    def _pause(self) -> None:
        if self._since is None:
            self._others = [one.pid for one in psutil.Process().children(recursive=True)]
        start = moment(self._others)
        if self._since is not None:
            self.between.append(start.since(self._since))
        self._meanwhile()
        self._since = moment(self._others)
        self.paused.append(self._since.since(start))


def measure(*, subjects: Sequence[Subject] = SUBJECTS, batch: int = 256) -> list[Line]:
    """Measure iterations and the start of the process.

    Args:
        subjects: what is attacked.
        batch: images per step of DFME.

    Raises:
        ScenarioError: this system has no isolated play.
    """
    require_linux()
    lines: list[Line] = []
    starts = []
    for subject in subjects:
        oracle, start = _play(subject, batch)
        starts.append(start)
        apart, here = oracle.between[1:], oracle.paused[1:-1]
        lines += _compared(subject, batch, apart, here)
    begin = spread(starts)
    return [
        *lines,
        Line(GROUP, "the start of that process", begin.median, "s", begin.low, begin.high,
             note="by the wall clock; once an episode; no part of the attacker's time"),
    ]  # fmt: skip


def _compared(
    subject: Subject, batch: int, apart: Sequence[Seconds], here: Sequence[Seconds]
) -> list[Line]:
    """Compare each isolated iteration with the trusted one right before it."""
    loop = f"DFME's loop in a process of its own to the loop in this one, {subject}"
    pairs = {
        loop: ratios([one.wall for one in apart], [one.wall for one in here]),
        f"{loop}, by processor time": ratios(
            [one.processor for one in apart], [one.processor for one in here]
        ),
    }
    seconds = spread([one.processor for one in here])
    note = (
        f"batch {batch}, {len(apart)} iterations of each in turn; "
        f"one takes {seconds.median:.3g} s of a processor here"
    )
    return [
        Line(GROUP, name, ratio.median, "x", ratio.low, ratio.high, target=TARGET,
             at_least=False, note=note)
        for name, ratio in pairs.items()
    ]  # fmt: skip


def _play(subject: Subject, batch: int) -> tuple[PausingOracle, float]:
    """Play both loops; returns what was timed, and the seconds that the process took to start."""
    victim = Victim(plain(subject.network, subject.width, subject.shape))
    trusted, isolated = DFME(batch=batch, directions=1), _apart(subject, batch)
    with (
        new_oracle(victim, 10**9, shape=subject.shape) as here,
        new_oracle(victim, (subject.iterations + 2) * 7 * batch, shape=subject.shape) as there,
    ):
        own = _kit(subject)
        trusted.prepare(here, own)

        def iteration() -> None:
            trusted.generator_step(here, own)
            for _ in range(trusted.settings.clone_steps):
                trusted.clone_step(here, own, batch)

        # a query of the generator's step asks each image and its neighbour
        oracle, kit = PausingOracle(there, 2 * batch, iteration), _kit(subject)
        began = time.perf_counter()
        isolated.start(oracle, kit)
        start = time.perf_counter() - began
        try:
            isolated.attack(oracle, kit)
        finally:
            isolated.close()
    return oracle, start


def _kit(subject: Subject) -> Kit:
    return Kit(
        device=torch.device("cpu"),
        generator=generator(3),
        new_clone=partial(subject.clone, generator()),
    )


def _apart(subject: Subject, batch: int) -> IsolatedAttacker:
    channels = subject.shape[0]
    return IsolatedAttacker(
        Contestant(
            attacker=Player("dfme", {"batch": batch, "directions": 1}),
            name="dfme",
            wrappers=(),
            clone=Network(subject.network, subject.options, (0.0,) * channels, (1.0,) * channels),
            new_network=partial(subject.clone, generator()),
            clones=generator(),
            files=(),
            memory=_MEMORY,
            note=lambda gap: None,
        )
    )
