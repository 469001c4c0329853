"""Scenario files: what they may say, how they are read, and the episodes they stand for.

Start reading at `schema.py`. What only reads settings out of a log (`settings.py`) does not wait
for the models: they are imported when one of these names is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arena.scenario.plan import RULES, EpisodePlan
    from arena.scenario.reading import load, shipped
    from arena.scenario.scenario import Scenario

__all__ = ["RULES", "EpisodePlan", "Scenario", "load", "shipped"]

_HOMES = {
    "RULES": "plan",
    "EpisodePlan": "plan",
    "Scenario": "scenario",
    "load": "reading",
    "shipped": "reading",
}
"""In which file each name is."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'arena.scenario' has no attribute '{name}'")
    return getattr(import_module(f"arena.scenario.{_HOMES[name]}"), name)
