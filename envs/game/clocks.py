"""Clocks: they run the victim and say how long each answer took.

`serve` gives the server's time, on which a defence may act; `deliver` then adds the network
between server and client, if the scenario has one.
"""

import time
import weakref
from collections.abc import Callable

import torch
from torch import Tensor

from envs.latency.model import LatencyModel, Network
from envs.seeding import Streams
from envs.types import LatencyMode
from envs.victim.victim import Victim, VictimAnswer

_WARM_UP = 10


class Untimed:
    """Serves without a clock, for games in which nobody sees latency."""

    served = 0

    def serve(
        self, victim: Victim, images: Tensor, *, generator: torch.Generator, ood: bool
    ) -> tuple[VictimAnswer, Tensor | None]:
        """Answer, without seconds."""
        return victim.answer(images, generator=generator, ood=ood), None

    def deliver(self, seconds: Tensor, images: Tensor) -> Tensor:
        """Return the seconds unchanged."""
        return seconds


class _Timed:
    """Counts queries, and delivers over the network.

    Attributes:
        served: images served so far, on which modelled chance depends.
    """

    def __init__(self, seed: int, network: Network | None, *, together: bool = False) -> None:
        self._seed, self._network, self._together = seed, network, together
        self.served = 0

    def deliver(self, seconds: Tensor, images: Tensor) -> Tensor:
        """Add the network's time to the request that was served last.

        Args:
            seconds: (n,) float64, when the server sends the answers.
            images: (n, c, h, w), what was asked.
        """
        if self._network is None:
            return seconds
        return self._network.deliver(
            seconds,
            image_bytes=images[0].numel(),
            seed=self._seed,
            first=self.served - len(seconds),
            together=self._together,
        )


class VirtualClock(_Timed):
    """Models the time from exits and a seed, so that an episode repeats exactly.

    Args:
        model: the server.
        seed: of the episode's latency.
        network: between server and client.
    """

    def __init__(self, model: LatencyModel, seed: int, *, network: Network | None = None) -> None:
        super().__init__(seed, network, together=model.returns == "end_of_batch")
        self.model = model

    def serve(
        self, victim: Victim, images: Tensor, *, generator: torch.Generator, ood: bool
    ) -> tuple[VictimAnswer, Tensor | None]:
        """Answer, with modelled seconds."""
        answer = victim.answer(images, generator=generator, ood=ood)
        first, self.served = self.served, self.served + len(images)
        seconds = self.model.seconds(answer.exits, victim.profile, seed=self._seed, first=first)
        return answer, seconds


class WallClock(_Timed):
    """Serves images one by one and measures each; the first run of a victim is not measured.

    Args:
        seed: of the network's jitter.
        network: a modelled network on top of the measured time.
        warm_up: runs of the whole network before a victim is first measured.
        holds: whether a request is really held back for as long as its answers are said to take,
            one after the other, because who asks has a clock too.
        sleep: waits for seconds.
    """

    def __init__(
        self,
        seed: int,
        *,
        network: Network | None = None,
        warm_up: int = _WARM_UP,
        holds: bool = False,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(seed, network)
        self._warm_up, self._holds, self._sleep = warm_up, holds, sleep
        self._warm: weakref.WeakSet[Victim] = weakref.WeakSet()
        self._began = 0.0

    def serve(
        self, victim: Victim, images: Tensor, *, generator: torch.Generator, ood: bool
    ) -> tuple[VictimAnswer, Tensor | None]:
        """Answer, with measured seconds."""
        if victim not in self._warm and not victim.is_remote:  # a run elsewhere costs a query
            for _ in range(self._warm_up):
                victim.posteriors(images[:1])
            self._warm.add(victim)
        self.served += len(images)
        self._began = time.perf_counter()
        return victim.answer_each(images, generator=generator, ood=ood)

    def deliver(self, seconds: Tensor, images: Tensor) -> Tensor:
        """Add the network's time, and wait until the answers are due where they are held."""
        sent = super().deliver(seconds, images)
        if self._holds:
            left = self._began + float(sent.sum()) - time.perf_counter()
            if left > 0:
                self._sleep(left)
        return sent


def make_clock(
    mode: LatencyMode,
    streams: Streams,
    *,
    model: LatencyModel | None = None,
    network: Network | None = None,
    holds: bool = False,
) -> Untimed | VirtualClock | WallClock:
    """Build the clock of an episode; its chance is the stream "latency".

    Args:
        mode: "none", "virtual" (modelled) or "wall" (measured).
        streams: of the episode.
        model: the server of "virtual"; the simple channel if absent.
        network: between server and client.
        holds: see `WallClock`.
    """
    seed = streams.integer("latency")
    if mode == "virtual":
        return VirtualClock(model if model is not None else LatencyModel(), seed, network=network)
    if mode == "wall":
        return WallClock(seed, network=network, holds=holds)
    if mode == "none":
        return Untimed()
    raise ValueError(f"expected latency 'none', 'virtual' or 'wall', got {mode!r}")
