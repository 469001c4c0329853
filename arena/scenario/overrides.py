"""Changes single values of a scenario from outside: `--set threat.budget=20_000`."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from arena.registry.messages import dotted, entry_labels, entry_position, unknown

# `Any` in this file: tables as TOML gives them, before they are validated.


def apply_overrides(raw: dict[str, Any], overrides: Sequence[str]) -> list[str]:
    """Set values in place, in order.

    A step of a path is a key, a position in a list, or the name of an entry of a list. Tables
    that are not there are made; whether a key may be there is checked with the whole.

    Returns:
        one line for each override that leads nowhere.
    """
    faults = []
    for override in overrides:
        path, equals, text = override.partition("=")
        if equals and path.strip():
            faults.append(_apply(raw, path, parse_value(text.strip())))
        else:
            faults.append(f"--set {override}: expected path.to.key=value")
    return [fault for fault in faults if fault]


def apply_values(raw: dict[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Set values by their paths, as `apply_overrides` does."""
    return [fault for path, value in values.items() if (fault := _apply(raw, path, value))]


def _apply(raw: dict[str, Any], path: str, value: Any) -> str | None:
    steps = steps_of(raw, path)
    if not all(steps):
        return f"{path}: expected path.to.key"
    table: Any = raw
    for depth, step in enumerate(steps[:-1]):
        fault, table = _enter(table, step, steps[: depth + 1])
        if fault:
            return fault
    return _assign(table, steps[-1], steps=steps, value=value)


def steps_of(raw: Any, path: str) -> list[str]:
    """Part a dotted path into steps; the name of an entry of a list may have dots itself."""
    rest, steps, table = [step.strip() for step in path.split(".")], list[str](), raw
    while rest:
        longest = range(len(rest), 1, -1) if isinstance(table, list) else ()
        names = (".".join(rest[:count]) for count in longest)
        step = next((one for one in names if entry_position(table, one) is not None), rest[0])
        rest = rest[step.count(".") + 1 :]
        steps.append(step)
        if isinstance(table, list):
            place = entry_position(table, step)
            table = None if place is None else table[place]
        else:
            table = table.get(step) if isinstance(table, dict) else None
    return steps


def parse_value(text: str) -> Any:
    """Read a value as TOML; whatever is no TOML is taken as a text."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, too many digits, too many brackets
        return text
    return table["value"] if list(table) == ["value"] else text


def _enter(table: Any, step: str, path: list[str]) -> tuple[str | None, Any]:
    """Step into a table or list; a text that stands for a table becomes that table."""
    if isinstance(table, list):
        position = entry_position(table, step)
        if position is None:
            return _no_entry(table, step, path), None
        key: Any = position
    else:
        key = step
        table.setdefault(key, {})
    if isinstance(table[key], str):  # data = "digits" is short for data.use = "digits"
        table[key] = {"use": table[key]}
    if not isinstance(table[key], dict | list):
        return f"{dotted(path)}: a single value, there is nothing below it to set", None
    return None, table[key]


def _assign(table: Any, step: str, *, steps: list[str], value: Any) -> str | None:
    if isinstance(table, dict):
        table[step] = value
        return None
    position = entry_position(table, step)
    if position is None:
        return _no_entry(table, step, steps)
    table[position] = value
    return None


def _no_entry(entries: list[Any], step: str, path: list[str]) -> str:
    names = [label or str(number) for number, label in enumerate(entry_labels(entries))]
    return unknown(dotted(path), step, names, noun="entry")
