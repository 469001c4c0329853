"""Writes a defence out at several settings of one knob.

    [[defenders]]
    name = "randp"
    defence = "randp"
    sweep = { epsilon = [0.1, 0.5, 1.0] }

stands for three defenders, "randp epsilon=0.1" and so on. An attacker that names "randp" in
`against` or `spares` names all three.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from envs.errors import ScenarioError
from envs.loading.imports import short_name

# `Any` in this file: tables as TOML gives them, before they are validated.

POLICY = "policy."
"""What a knob begins with that is the defender's own and not its defence's."""


def with_sweeps(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write out every defender that has a sweep.

    Args:
        raw: the table of a scenario.

    Raises:
        ScenarioError: a sweep that names no knob, several, or no values.
    """
    defenders = raw.get("defenders")
    if not isinstance(defenders, list | tuple) or not any(map(_sweeps, defenders)):
        return raw
    expanded: list[Any] = []
    names: dict[str, list[str]] = {}
    for table in defenders:
        if not _sweeps(table):
            expanded.append(table)
            continue
        settings = _settings(table)
        expanded += settings
        names.setdefault(_name(table), []).extend(one["name"] for one in settings)
    attackers = raw.get("attackers")
    if isinstance(attackers, list | tuple):
        attackers = [_renamed(attacker, names) for attacker in attackers]
    return {**raw, "defenders": expanded, **({"attackers": attackers} if attackers else {})}


def _sweeps(table: object) -> bool:
    return isinstance(table, Mapping) and "sweep" in table


def _name(table: Mapping[str, Any]) -> Any:
    found = table.get("name", table.get("defence", "undefended"))
    return found if "name" in table else short_name(str(found))


def _settings(table: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a defender for each value of the knob."""
    name, sweep = _name(table), table["sweep"]
    if not isinstance(name, str):
        raise ScenarioError(f"defenders: expected a text as name of what is swept, got {name!r}")
    place = f"defenders.{name}.sweep"
    if not isinstance(sweep, Mapping) or len(sweep) != 1:
        raise ScenarioError(f"{place}: expected one knob and its values, "
                            f"such as {{ epsilon = [0.1, 0.5] }}, got {sweep!r}")  # fmt: skip
    ((knob, values),) = sweep.items()
    if not isinstance(values, Sequence) or isinstance(values, str) or not values:
        raise ScenarioError(f"{place}.{knob}: expected a list of values, got {values!r}")
    if not isinstance(table.get("defence", "undefended"), str) and not knob.startswith(POLICY):
        raise ScenarioError(f"{place}.{knob}: a list of defences has no knob of its own; "
                            f"expected one defence, by its name")  # fmt: skip
    rest = {key: value for key, value in table.items() if key != "sweep"}
    return [_at(rest, name, knob, value) for value in values]


def _at(table: Mapping[str, Any], name: str, knob: str, value: object) -> dict[str, Any]:
    part, key = ("policy", knob[len(POLICY) :]) if knob.startswith(POLICY) else ("params", knob)
    given = table.get(part, {})
    # what is no table is told by the schema, with its place
    return {
        **table,
        "name": f"{name} {key}={value}",
        part: {**given, key: value} if isinstance(given, Mapping) else given,
    }


def _renamed(attacker: object, names: Mapping[str, Sequence[str]]) -> object:
    """Let an attacker that names a sweep name all its defenders."""
    if not isinstance(attacker, Mapping):
        return attacker
    meant = {
        key: [
            each
            for name in attacker[key]
            for each in (names.get(name, (name,)) if isinstance(name, str) else (name,))
        ]
        for key in ("against", "spares")
        if isinstance(attacker.get(key), list | tuple)
    }
    return {**attacker, **meant}
