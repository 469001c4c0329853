"""Chooses the fastest of several executions by timing the first requests.

Which execution is fastest on an accelerator depends on the device, the network, the size of a
request and the exits of its images. All give the same exits, so they serve the first requests of
each size in turn and are timed; afterwards the fastest serves alone. Only trials wait for the
device.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch

T = TypeVar("T")

SAMPLES = 4
"""Timed requests of each way and size; the first of them warms up and does not count."""


class Trial:
    """Chooses among ways to serve, for each size of request.

    Args:
        device: waited for while ways are tried.
        clock: seconds.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._device, self._clock = device, clock
        self._seconds: dict[int, dict[str, list[float]]] = {}
        self._chosen: dict[int, str] = {}

    def run(self, count: int, ways: Mapping[str, Callable[[], T]]) -> T:
        """Serve a request of so many images by one of the ways.

        Sizes within a factor of two share their choice.
        """
        size = count.bit_length()
        if size in self._chosen:
            return ways[self._chosen[size]]()
        seconds = self._seconds.setdefault(size, {name: [] for name in ways})
        name = min(seconds, key=lambda way: len(seconds[way]))
        self._wait()
        began = self._clock()
        served = ways[name]()
        self._wait()
        seconds[name].append(self._clock() - began)
        if all(len(samples) >= SAMPLES for samples in seconds.values()):
            self._chosen[size] = min(seconds, key=lambda way: statistics.median(seconds[way][1:]))
        return served

    @property
    def chosen(self) -> Mapping[int, str]:
        """The way that won, by the bits of the number of images."""
        return dict(self._chosen)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
