"""Interleaved measurement: A B A B, so that a busy machine slows both alike."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

Run = Callable[[], object]
Clock = Literal["wall", "cpu"]


def _processor_seconds() -> float:
    """Read the time on processors of this process and of the children that ended."""
    children = os.times()
    return time.process_time() + children.children_user + children.children_system


_CLOCKS: Mapping[Clock, Callable[[], float]] = {
    "wall": time.perf_counter,
    "cpu": _processor_seconds,
}
_clocks = [_CLOCKS["wall"]]


@contextmanager
def clock(name: Clock) -> Iterator[None]:
    """Choose what `now` reads: the wall clock, or the time on processors of this process.

    The second says more where others use the machine; it is blind to waiting. The time of child
    processes counts once they ended.
    """
    _clocks.append(_CLOCKS[name])
    try:
        yield
    finally:
        _clocks.pop()


def now() -> float:
    """Read the clock in use, in seconds."""
    return _clocks[-1]()


class Spread(NamedTuple):
    """A median with the range that holds the middle half of the samples."""

    median: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Line:
    """One measured figure.

    Attributes:
        group: the benchmark it belongs to.
        name: what was measured.
        value: median, or the best of some repetitions where `note` says so.
        unit: of the value; "x" for ratios.
        low, high: quartiles of the samples; None where there is one sample.
        target: bound that the value should keep.
        at_least: whether the bound is a lower one.
        note: conditions.
    """

    group: str
    name: str
    value: float
    unit: str
    low: float | None = None
    high: float | None = None
    target: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the value keeps its bound; None where there is none."""
        if self.target is None:
            return None
        return self.value >= self.target if self.at_least else self.value <= self.target


def spread(samples: Sequence[float]) -> Spread:
    """Sum up samples by their quartiles."""
    if len(samples) < 2:
        return Spread(samples[0], samples[0], samples[0])
    low, median, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(median, low, high)


def interleave(
    runs: Mapping[str, Run], *, rounds: int, warm_up: int = 1, repeats: int = 1
) -> dict[str, list[float]]:
    """Time several runs in turn.

    Args:
        runs: what is timed, by name.
        rounds: how often each is timed.
        warm_up: untimed rounds before.
        repeats: calls that make one sample, for what is too short to time by itself.

    Returns:
        Seconds per call, by the clock in use, `rounds` of them for each name.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    enabled = gc.isenabled()
    gc.disable()
    try:
        for number in range(warm_up + rounds):
            for name, run in runs.items():
                seconds = _time(run, repeats)
                if number >= warm_up:
                    samples[name].append(seconds)
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return samples


def ratios(over: Sequence[float], under: Sequence[float], factor: float = 1.0) -> Spread:
    """Sum up factor * over / under, each pair from one round."""
    return spread([factor * a / b for a, b in zip(over, under, strict=True)])


def _time(run: Run, repeats: int) -> float:
    began = now()
    for _ in range(repeats):
        run()
    return (now() - began) / repeats
