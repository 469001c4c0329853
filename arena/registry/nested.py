"""Players inside players: the phases of a campaign, the layers of a stack.

A player that is made of others takes them already built, as one parameter annotated with a
sequence of their base class (`Sequence[Attacker]`). A scenario writes such a parameter as a list
of names, or of tables with `use` and `params`. Any other key of these tables goes into the list
that is named so in the plural: the `share` of each phase into `shares`.
"""

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args, get_origin

from arena.registry.messages import Path, dotted
from envs.errors import ScenarioError

_OWN = ("use", "params", "code")  # `code` is a digest that plans carry; it is no parameter


@dataclass(frozen=True, slots=True)
class Inner:
    """One player inside another.

    Attributes:
        use: its name, or path/to/file.py:Class.
        params: its parameters.
    """

    use: str
    params: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Parted:
    """Parameters parted into values and players.

    Attributes:
        values: what is not a player, lists in the plural included.
        inner: the players of each parameter that holds some.
    """

    values: dict[str, object]
    inner: dict[str, list[Inner]]


def part(found: type, params: Mapping[str, object], base: type, *, prefix: Path = ()) -> Parted:
    """Part what a player is told into values and players inside it.

    Args:
        found: the player's class.
        params: as written in a file, or as a plan holds them.
        base: what the players inside subclass.
        prefix: path of the table in the file, for the message.

    Raises:
        ScenarioError: an entry that is neither a name nor a table with `use`, a key that has no
            list in the plural, or one that only some entries have.
    """
    holders = _holders(found, base)
    values = {name: value for name, value in params.items() if name not in holders}
    inner: dict[str, list[Inner]] = {}
    for name in holders:
        given = params.get(name)
        if not isinstance(given, list | tuple) or any(isinstance(one, base) for one in given):
            if name in params:
                values[name] = given  # built already, or not even a list: the types will tell
            continue
        tables = [_table(one, (*prefix, name, number)) for number, one in enumerate(given)]
        inner[name] = [Inner(str(one["use"]), _params(one)) for one in tables]
        values.update(_plurals(tables, holders[name], prefix=(*prefix, name)))
    return Parted(values, inner)


def _holders(found: type, base: type) -> dict[str, frozenset[str]]:
    """Name the parameters that hold players, each with all parameters of the class."""
    try:
        hints = typing.get_type_hints(found.__init__)  # type: ignore[misc] # a class's own
    except (NameError, TypeError, AttributeError):
        return {}
    hints.pop("return", None)
    names = frozenset(hints)
    return {name: names for name, hint in hints.items() if _holds(hint, base)}


def _holds(hint: Any, base: type) -> bool:  # Any: an annotation
    arguments = get_args(hint)
    origin = get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return any(isinstance(one, type) and issubclass(base, one) and one is not object
                   for one in arguments)  # fmt: skip
    return any(_holds(one, base) for one in arguments)


def _table(entry: object, where: Path) -> Mapping[str, object]:
    table = {"use": entry} if isinstance(entry, str) else entry
    if not isinstance(table, Mapping) or not isinstance(table.get("use"), str):
        raise ScenarioError(
            f"{dotted(where)}: expected a name or a table with 'use', got {entry!r}"
        )
    return table


def _params(table: Mapping[str, object]) -> Mapping[str, object]:
    params = table.get("params", {})
    if not isinstance(params, Mapping):
        raise ScenarioError(f"expected a table of params for '{table['use']}', got {params!r}")
    return params


def _plurals(
    tables: Sequence[Mapping[str, object]], known: frozenset[str], *, prefix: Path
) -> dict[str, object]:
    """Collect what the tables say beside `use` and `params`."""
    keys = dict.fromkeys(key for table in tables for key in table if key not in _OWN)
    for key in keys:
        if f"{key}s" not in known:
            raise ScenarioError(f"{dotted(prefix)}: unknown key '{key}'; expected use, params")
        if any(key not in table for table in tables):
            raise ScenarioError(f"{dotted(prefix)}: give '{key}' to every entry, or to none")
    return {f"{key}s": [table[key] for table in tables] for key in keys}
