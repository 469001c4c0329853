"""Measurements that scripts of the checkout make: the log's speed and the defences' cost."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from arena.bench.timing import Line
from envs.errors import ArenaError

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"

_UNITS = {"rows_per_second": "rows/s", "seconds": "s", "megabytes_per_1000_episodes": "MB"}


def log_speed(*, rounds: int = 200_000, episodes: int = 10_000, repeats: int = 3) -> list[Line]:
    """Measure rows written a second, and how fast a full log is listed; the best of `repeats`.

    Raises:
        ArenaError: this is no checkout, or it lacks the script.
    """
    script = _load("log_speed")
    figures: Mapping[str, float] = script.measure(rounds=rounds, episodes=episodes, repeats=repeats)
    note, lines = f"best of {repeats}; {episodes} episodes listed", []
    for name, value in figures.items():
        unit = next((text for end, text in _UNITS.items() if name.endswith(end)), None)
        if unit is not None:
            words = name.removesuffix("_rows_per_second").removesuffix("_seconds").replace("_", " ")
            lines.append(
                Line("log", words, value, unit, target=script.TARGETS.get(name),
                     at_least=unit == "rows/s", note=note)
            )  # fmt: skip
    return lines


def defence_cost(*, small: int = 15, large: int = 3) -> list[Line]:
    """Measure what each defence adds to an answer, in forward passes of the victim.

    Args:
        small: rounds with the victim of digits, whose pass takes a few milliseconds.
        large: rounds with ResNet18-8x at 32x32, and the defences that have a target; 0 for none.

    Raises:
        ArenaError: this is no checkout, or it lacks the script.
    """
    script = _load("defence_cost")
    found = {"digits": script.measure("digits", rounds=small)}
    if large:
        asked = [name for name, case in script.CASES.items() if case.target is not None]
        found["resnet18-8x"] = script.measure("resnet18-8x", rounds=large, cases=asked)
    return [
        Line("defences", f"{name}, {victim}", verdict["added"], "forward passes added",
             target=verdict["target"], at_least=False, note=f"{verdict['macs']:.3f} by MACs")
        for victim, verdicts in found.items()
        for name, verdict in verdicts.items()
    ]  # fmt: skip


def _load(name: str) -> ModuleType:
    """Load a script of the checkout's folder `benchmarks`, which no distribution carries."""
    path = FOLDER / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmarks.{name}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ArenaError(
            f"expected {path}; this benchmark runs in a checkout of the project alone, "
            f"leave it out with --only"
        )
    module: Any = importlib.util.module_from_spec(spec)  # `Any`: its functions are its own
    sys.modules[spec.name] = module  # where dataclasses look their module up
    spec.loader.exec_module(module)
    loaded: ModuleType = module
    return loaded
