"""Writes what each defence brings and costs, held against the undefended victim."""

from collections.abc import Sequence
from typing import NamedTuple

from arena.analysis.effects import (
    KINDS,
    DefenceEffects,
    Effect,
    told_kinds,
)
from arena.report.formatting import Cell, interval_cell, listed


class EffectLine(NamedTuple):
    """One row of the table: a defender, and a cell for each heading."""

    defender: str
    cells: list[Cell]


class EffectTable(NamedTuple):
    """Every defender against the control; without lines where there is no control to hold against.

    Attributes:
        headings: of the cells.
        lines: those that are copied least first.
        note: which attackers did not meet which defender; "" if all met all.
    """

    headings: list[str]
    lines: list[EffectLine]
    note: str


def effect_table(found: Sequence[DefenceEffects]) -> EffectTable:
    """Write a line for each defender, and a column for what was measured."""
    kinds = told_kinds(found)
    headings = [KINDS[kind].heading for kind in kinds]
    lines = []
    for one in found:
        cells = [effect_cell(one.effects.get(kind)) for kind in kinds]
        lines.append(EffectLine(one.defender, [*cells, _hardening(one)]))
    return EffectTable([*headings, "training"] if lines else [], lines, _unmet(found))


def effect_cell(effect: Effect | None) -> Cell:
    """Write a difference in points; a star marks one that a test shows."""
    if effect is None:
        return Cell("")
    found = interval_cell(effect.interval, "points", seeds=effect.interval.n)
    plus = "+" if effect.interval.mean > 5e-4 else ""
    return found._replace(mean=f"{plus}{found.mean}{'*' * effect.shown}")


def _hardening(one: DefenceEffects) -> Cell:
    took = one.hardening
    return Cell("") if took is None else interval_cell(took, "seconds", seeds=took.n)


def _unmet(found: Sequence[DefenceEffects]) -> str:
    every = set().union(*(one.attackers for one in found))
    missing = [
        f"{one.defender}: {listed(sorted(every - set(one.attackers)))}"
        for one in found
        if every - set(one.attackers)
    ]
    return "; ".join(missing)
