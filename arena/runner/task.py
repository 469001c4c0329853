"""What a match hands out to whoever plays: one episode at a time."""

from typing import NamedTuple

from arena.scenario import EpisodePlan


class Task(NamedTuple):
    """One episode to be played by whichever worker is free.

    Attributes:
        number: its place among the scenario's episodes, from 0.
        total: how many episodes the scenario has.
        plan: what is played.
    """

    number: int
    total: int
    plan: EpisodePlan
