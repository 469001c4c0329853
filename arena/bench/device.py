"""Measuring on an accelerator: time with the device waited for, energy, and waits counted."""

import time
import warnings
from collections.abc import Callable, Mapping

import torch

from arena.bench.timing import Run, spread

Figures = dict[str, float | None]


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(run: Run, device: torch.device) -> float:
    """Time one run, the device waited for on both sides."""
    wait(device)
    began = time.perf_counter()
    run()
    wait(device)
    return time.perf_counter() - began


def in_turn(
    runs: Mapping[str, Run], device: torch.device, *, rounds: int, warm_up: int
) -> dict[str, list[float]]:
    """Time several runs in turn: A B A B."""
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(warm_up + rounds):
        for name, run in runs.items():
            seconds = seconds_of(run, device)
            if number >= warm_up:
                samples[name].append(seconds)
    return samples


def summed_up(samples: list[float], images: int) -> Figures:
    """Give the median of samples with quartiles, and images a second."""
    seconds = spread(samples)
    return {
        "seconds": seconds.median,
        "seconds_low": seconds.low,
        "seconds_high": seconds.high,
        "images_per_second": images / seconds.median,
    }


def joules_of(run: Run, device: torch.device, *, seconds: float) -> float | None:
    """Measure the energy of one run over a window of at least `seconds`; None without a meter.

    The counter of the device sums up millijoules and moves every 10 ms or so: a window below a
    second would measure its steps.
    """
    read = _meter(device)
    if read is None:
        return None
    wait(device)
    before, began, count = read(), time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        run()
        wait(device)
        count += 1
    return (read() - before) / count


def waits_of(run: Run, device: torch.device) -> int | None:
    """Count how often one run makes the host wait for the device; None on a CPU."""
    if device.type != "cuda":
        return None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _meter(device: torch.device) -> Callable[[], float] | None:
    """Return a reader of the joules a device has used so far."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByIndex(device.index or 0)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError:
        return None
    return lambda: float(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)) / 1e3
