"""Tells when attacks began to work: as sentences, and as a table."""

from collections.abc import Sequence
from typing import NamedTuple

from arena.analysis.learning import Delay, Learning
from arena.analysis.scoreboard import ScoreRow
from arena.report.findings import Finding, Statement, shares_text
from arena.report.formatting import Cell, count_text, counted, interval_cell, listed


class LearningLine(NamedTuple):
    """One row of the table: a meeting, and a cell for each heading."""

    row: ScoreRow
    cells: list[Cell]


class LearningTable(NamedTuple):
    """When the attacks of a game began to work; without lines where no clone showed anything.

    Attributes:
        headings: of the cells.
        lines: defender by defender.
        never: the meetings in which no clone showed anything, in one line.
    """

    headings: list[str]
    lines: list[LearningLine]
    never: str


def learning_table(found: Sequence[Learning]) -> LearningTable:
    """Write a line for each meeting in which a clone showed something.

    Accuracies that no clone reached have no column.
    """
    reached = [
        level
        for level in (found[0].levels if found else ())
        if any(one.levels[level].came for one in found)
    ]
    if not reached and not any(one.above_chance and one.above_chance.came for one in found):
        return LearningTable([], [], "")
    headings = ["above chance by", *(f"{100 * level:g}% by" for level in reached)]
    lines = []
    never: dict[str, list[str]] = {}
    order = list(dict.fromkeys(one.row.versus for one in found))
    for one in sorted(found, key=lambda one: order.index(one.row.versus)):
        delays = [one.above_chance, *(one.levels[level] for level in reached)]
        if not any(delay and delay.came for delay in delays):
            never.setdefault(one.row.attack, []).append(one.row.versus)
            continue
        area = interval_cell(one.area, "share", seeds=one.row.n)
        if one.at_end:
            area = Cell("trained at the end")
        lines.append(LearningLine(one.row, [*map(delay_cell, delays), area]))
    told = (
        f"{attack} against {'all' if defenders == order and order[2:] else listed(defenders)}"
        for attack, defenders in never.items()
    )
    return LearningTable([*headings, "mean accuracy over the budget"], lines, "; ".join(told))


def learning_finding(found: Sequence[Learning]) -> list[Finding]:
    """Say of each defender which attack was above a guess first; nothing where nobody knows."""
    by_defender: dict[str, list[Learning]] = {}
    for one in found:
        if one.above_chance is not None:
            by_defender.setdefault(one.row.versus, []).append(one)
    answers = tuple(Statement(name, _told_of(rows)) for name, rows in by_defender.items())
    short = _shortly([_first_of(rows) for rows in by_defender.values()])
    return [Finding("When did the attack begin to work?", answers, short)] if answers else []


def _shortly(firsts: Sequence[tuple[Learning, Delay] | None]) -> str:
    """Say which attacks were above a guess first, and between which numbers of queries."""
    came = [one for one in firsts if one is not None]
    of = counted(len(firsts), "defender")
    if not came:
        return f"No checkpoint shows a clone that is better than a guess, against {of}."
    by = sorted((delay for _, delay in came), key=lambda one: one.median or float("inf"))
    low, high = (_queries(one.median, one) for one in (by[0], by[-1]))
    reach = low if low == high else f"{low} to {high}"
    told = shares_text([first.row.attack for first, _ in came], of)
    return f"First above a guess, by {reach} of {count_text(came[0][1].budget)} queries: {told}"


def _first_of(rows: Sequence[Learning]) -> tuple[Learning, Delay] | None:
    """Find the attack that was above a guess first; of equals the one that came furthest."""
    came = [(one, delay) for one in rows if (delay := one.above_chance) is not None and delay.came]

    def when(item: tuple[Learning, Delay]) -> tuple[float, float]:
        score = item[0].row.scores.get("clone_accuracy")
        return item[1].median or float("inf"), -score.mean if score else 0.0

    return min(came, key=when, default=None)


def _told_of(rows: Sequence[Learning]) -> str:
    found = _first_of(rows)
    if found is None:
        return "no checkpoint shows a clone that is better than a guess."
    first, delay = found
    who = first.row.attack + (" first" if len(rows) > 1 else "")
    if first.at_end:
        who += ", which trains at the end"
    return (
        f"{who}, its clone better than a guess by {_queries(delay.median, delay)} of "
        f"{count_text(delay.budget)} queries ({_reach(delay)})."
    )


def _reach(delay: Delay) -> str:
    """Say how far the median may be off, and in how many seeds it came."""
    n = len(delay.by)
    seeds = (
        counted(n, "seed") if delay.came == n else f"came in {delay.came} of {counted(n, 'seed')}"
    )
    if n == 1:
        return "one seed"
    if len(set(delay.by)) == 1:
        return f"in each of {seeds}"
    low, high = (_queries(end, delay) for end in delay.ends)
    if delay.is_interval:
        return f"median, 95% interval {low} to {high}, {seeds}"
    return f"median; all of them {low} to {high}; {seeds}"


def delay_cell(delay: Delay | None) -> Cell:
    """Write the median, the ends under it, and in how many seeds it came if not in all."""
    if delay is None:
        return Cell("")
    n, (low, high) = len(delay.by), delay.ends
    note = "" if delay.came == n else f"in {delay.came} of {counted(n, 'seed')}"
    reach = "" if len(set(delay.by)) == 1 else f"{_queries(low, delay)} to {_queries(high, delay)}"
    return Cell(_queries(delay.median, delay), reach, note)


def _queries(asked: int | None, delay: Delay) -> str:
    return f"> {count_text(delay.budget)}" if asked is None else count_text(asked)
