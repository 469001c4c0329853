"""Reads rows, and refuses cells of another type than their column, which SQLite stores too."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from sqlalchemy import JSON, Boolean, Connection, Double, Integer, Select, String
from sqlalchemy.types import TypeEngine

MAPS = frozenset({"plan", "attacker_params", "defender_params", "versions", "countermeasure",
                  "metrics", "data", "meta"})  # fmt: skip
"""Columns of JSON objects; `data` of an episode is a name, and no JSON."""

_SHARES = ("_accuracy", "_fidelity", "_agreement", "confidence")
"""How the names of columns end that hold numbers from 0 to 1."""

_KINDS: tuple[tuple[type[TypeEngine[Any]], frozenset[type]], ...] = (
    (Boolean, frozenset({bool, type(None)})),
    (Integer, frozenset({int, type(None)})),
    (Double, frozenset({float, int, type(None)})),
    (String, frozenset({str, type(None)})),
)
_MAP: frozenset[type] = frozenset({dict, type(None)})


def read_cells(
    connection: Connection, query: Select[*tuple[Any, ...]], *, sound: bool
) -> list[dict[str, Any]]:
    """Run a query over columns; gives each row by their names.

    Args:
        connection: of the log.
        query: what to read.
        sound: check the cells; raises as `require_sound` does.
    """
    rows = connection.execute(query).all()
    columns = {str(column.key): column.type for column in query.selected_columns}
    if sound:
        require_sound(columns, rows)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def require_sound(columns: Mapping[str, TypeEngine[Any]], rows: Sequence[Sequence[object]]) -> None:
    """Check all cells, a column at a time: their types, and that numbers are finite and in range.

    Args:
        columns: the types of the columns by name, in the order of the cells.
        rows: what was read.

    Raises:
        TypeError, ValueError: a cell that its column cannot hold.
    """
    for (name, kind), cells in zip(columns.items(), zip(*rows, strict=True), strict=False):
        allowed = _allowed(name, kind)
        if allowed and not (found := set(map(type, cells))) <= allowed:
            types = ", ".join(sorted(one.__name__ for one in found - allowed))
            raise TypeError(f"{name}: got {types}")
        if isinstance(kind, Double):
            _require_in_range(name, [cell for cell in cells if cell is not None])


def meaning(name: str, kind: TypeEngine[Any]) -> str:
    """Say what a column holds: "integer", "share from 0 to 1"."""
    return "share from 0 to 1" if name.endswith(_SHARES) else type(kind).__name__.lower()


def _require_in_range(name: str, numbers: Sequence[Any]) -> None:
    if not all(map(isfinite, numbers)):
        raise ValueError(f"{name}: got infinity or NaN")
    if name.endswith(_SHARES) and numbers and not 0 <= min(numbers) <= max(numbers) <= 1:
        raise ValueError(f"{name}: expected 0 to 1")


def _allowed(name: str, kind: TypeEngine[Any]) -> frozenset[type]:
    """Return the types of a column's cells; none where its own reader checks them."""
    if isinstance(kind, JSON):
        return _MAP if name in MAPS else frozenset()
    return next((types for base, types in _KINDS if isinstance(kind, base)), frozenset())
