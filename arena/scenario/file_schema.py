"""The JSON Schema of scenario files as people write them, for editors and other tools.

The models of `schema.py` describe a whole scenario. A file may leave out what is filled in, what
it inherits by `extends`, and may write a defender's parameters and sweeps beside its defence.
"""

from collections.abc import Mapping
from typing import Any

from arena.scenario.scenario import Scenario

# `Any` in this file: parts of a JSON Schema.

_FILLED_IN = {"AttackerSpec": ("name",), "DefenderSpec": ("name", "defence")}
_EXTENDS = {
    "type": "string",
    "description": "A scenario to inherit from: a path beside this file, or a shipped name.",
}
_PARAMS = {"type": "object", "description": "Parameters of its one defence, by name."}
_SWEEP = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": {"type": "array", "minItems": 1},
    "description": "One knob and its values; the defender is played at each.",
}
_ONE_DEFENCE = {
    "if": {"required": ["params"]},
    "then": {"properties": {"defence": {"type": "string"}}},
}


def file_schema() -> dict[str, Any]:
    """Return the schema of what a file may hold.

    Values are checked as far as JSON Schema can: names of players and networks, their parameters
    and what one table demands of another are left to `arena scenarios check`.
    """
    whole = Scenario.model_json_schema()
    definitions = whole.pop("$defs")
    for name, keys in _FILLED_IN.items():
        _make_optional(definitions[name], keys)
    defender = definitions["DefenderSpec"]
    defender["properties"] |= {"params": _PARAMS, "sweep": _SWEEP}
    defender |= _ONE_DEFENCE
    _make_optional(whole, ("name",))
    partial = _partial(whole, definitions)
    partial["properties"]["extends"] = _EXTENDS
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **partial,
        "if": {"not": {"required": ["extends"]}},
        "then": _demands(whole, definitions),
        "$defs": definitions,
    }


def _make_optional(table: dict[str, Any], keys: tuple[str, ...]) -> None:
    table["required"] = [key for key in table.get("required", ()) if key not in keys]


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return a node with the definition it points to written out."""
    rest = {key: value for key, value in node.items() if key != "$ref"}
    if "$ref" in node:
        return {**definitions[node["$ref"].rpartition("/")[2]], **rest}
    return rest


def _partial(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the demands of tables that merge with inherited ones; lists are replaced whole."""
    node = _resolved(node, definitions)
    node.pop("required", None)
    if "anyOf" in node:
        node["anyOf"] = [_partial(one, definitions) for one in node["anyOf"]]
    if "properties" in node:
        node["properties"] = {
            key: _partial(value, definitions) for key, value in node["properties"].items()
        }
    return node


def _demands(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Return only which keys tables must have; it holds for tables alone, whatever else fits."""
    node = _resolved(node, definitions)
    found = {"required": node["required"]} if node.get("required") else {}
    properties = {
        key: demands
        for key, value in node.get("properties", {}).items()
        if (demands := _demands(value, definitions))
    }
    if properties:
        found["properties"] = properties
    for option in node.get("anyOf", ()):
        found |= _demands(option, definitions)
    return found
