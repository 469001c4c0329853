"""Runs the benchmarks, and keeps what they measured with the circumstances."""

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime

import torch

from arena.bench import (
    defence_cost,
    engines,
    isolation,
    log_speed,
    overhead,
    packing,
    serving,
    startup,
)
from arena.bench.timing import Clock, Line
from arena.bench.timing import clock as reading
from arena.system.provenance import git_state, versions
from envs.errors import ArenaError, UnknownName

Measure = Callable[[], list[Line]]

FULL: Mapping[str, Measure] = {
    "serving": serving.measure,
    "packing": packing.measure,
    "overhead": overhead.measure,
    "attacks": engines.measure,
    "isolation": isolation.measure,
    "log": log_speed.measure,
    "start-up": startup.measure,
    "defences": defence_cost.measure,
}
"""The benchmarks by name, at the size that figures are published for."""

QUICK: Mapping[str, Measure] = {
    "serving": lambda: serving.measure(batches=(1, 32), rounds=2, width=0.125, tries=1),
    "packing": lambda: packing.measure(batches=(4,), rounds=2, width=0.125),
    "overhead": lambda: overhead.measure(rounds=3, calls=20, batch=32, width=0.125),
    # torch 2.14.1 crashes in the backward pass of convolutions of four channels, as 0.0625 has
    "attacks": lambda: engines.measure(rounds=1, batch=8, width=0.125, budget=64),
    "isolation": lambda: isolation.measure(subjects=[isolation.SMALLEST], batch=8),
    "log": lambda: log_speed.measure(rounds=4000, episodes=200, repeats=1),
    "start-up": lambda: startup.measure(rounds=2),
    "defences": lambda: defence_cost.measure(small=2, large=0),
}
"""The same at a size that only shows that they run."""


def run(
    names: Sequence[str] = (),
    *,
    quick: bool = False,
    clock: Clock = "wall",
    report: Callable[[str], None] = print,
) -> dict[str, object]:
    """Run benchmarks and return what `arena bench` writes as JSON.

    Args:
        names: which; all of them if none is named.
        quick: at a size that only shows that they run.
        clock: what is read; the cost of defences is processor time anyway.
        report: receives a line before each benchmark.

    Returns:
        `machine`, `versions`, `git_commit`, `quick`, `clock`, `at`, `lines` (fields of `Line`, with
        `holds`), `seconds` by benchmark, and `failed` with a reason for each that could not run.

    Raises:
        UnknownName: no benchmark of a name.
    """
    suite = QUICK if quick else FULL
    for name in names:
        if name not in suite:
            raise UnknownName("benchmark", name, suite)
    lines: list[Line] = []
    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    for name in dict.fromkeys(names or suite):
        report(f"measuring {name}")
        began = time.perf_counter()
        try:
            # a line that targets a published size says nothing at another one
            with reading(clock):
                lines += [replace(line, target=None) if quick else line for line in suite[name]()]
        except Exception as error:  # one that fails must not lose what the others measured
            told = isinstance(error, ArenaError)
            failed[name] = str(error) if told else f"{type(error).__name__}: {error}"
        seconds[name] = round(time.perf_counter() - began, 1)
    commit, changed = git_state()
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "clock": clock,
        "machine": _machine(),
        "versions": dict(versions()),
        "git_commit": commit,
        "git_changed": changed,
        "seconds": seconds,
        "lines": [{**asdict(line), "holds": line.holds} for line in lines],
        "failed": failed,
    }


def _machine() -> dict[str, object]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    """Name the processor as Linux does, elsewhere as Python does."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
