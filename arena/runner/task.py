"""One episode of a match, as a worker receives it."""

from typing import NamedTuple

from arena.scenario import EpisodePlan


class Task(NamedTuple):
    """One episode to be played by any free worker.

    Attributes:
        number: its place among the scenario's episodes, from 0.
        total: how many episodes the scenario has.
        plan: what is played.
    """

    number: int
    total: int
    plan: EpisodePlan
