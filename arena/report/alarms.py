"""Writes what detectors noticed: how soon the attack was flagged, and how many users were."""

from collections.abc import Sequence
from typing import NamedTuple

from arena.analysis.alarms import Detection
from arena.analysis.intervals import Interval
from arena.analysis.scoreboard import ScoreRow
from arena.report.formatting import Cell, counted, interval_cell
from arena.report.learning import delay_cell


class AlarmLine(NamedTuple):
    """One row of the table: a meeting, until its first alarm, and the benign clients flagged."""

    row: ScoreRow
    first: Cell
    flagged: Cell


def alarm_lines(found: Sequence[Detection]) -> list[AlarmLine]:
    """Write a line for each meeting with a defender that raised an alarm."""
    return [AlarmLine(one.row, delay_cell(one.first), _flagged_cell(one.flagged)) for one in found]


def _flagged_cell(flagged: Interval | None) -> Cell:
    if flagged is None:
        return Cell("")
    hits = round(flagged.mean * flagged.n)
    note = f"{hits} of {counted(flagged.n, 'client')}"
    return interval_cell(flagged, "share", seeds=flagged.n)._replace(note=note)
