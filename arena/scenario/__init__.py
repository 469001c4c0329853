"""Scenario files: what they may say, how they are read, and the episodes they stand for.

Start reading at `schema.py`.
"""

from arena.scenario.plan import RULES, EpisodePlan
from arena.scenario.reading import load, shipped
from arena.scenario.scenario import Scenario

__all__ = ["RULES", "EpisodePlan", "Scenario", "load", "shipped"]
