"""Writes the reference of scenario files: every key, its type, range, default and meaning."""

import json
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

from arena.scenario.file_schema import file_schema

# `Any` in this file: parts of a JSON Schema.

_HEAD = """\
# Reference of the scenario file

Written by `arena scenarios reference > docs/scenario_reference.md`.

A scenario is a TOML file; `arena new scenario NAME` makes a short one. `arena scenarios check FILE`
tells what is wrong with one, `arena scenarios show FILE` what it comes to, and
`arena scenarios schema` prints its JSON Schema for editors. Any other key is refused.
`--set PATH=VALUE` of `arena run` overrides a key, as in `--set threat.budget=5000`.

"needed" means that the file, or the one it `extends`, has to say it. Where a table has a key `use`,
its text alone may stand for it: `data = "digits"` is `data = { use = "digits" }`. `params` of
players, networks and data sets are listed by `arena agents NAME`.
"""

_TYPES = {
    "integer": "whole number", "number": "number", "string": "text", "object": "table",
    "boolean": "true or false", "array": "list",
}  # fmt: skip

_BOUNDS = {
    "minimum": "{} or more", "exclusiveMinimum": "above {}", "maximum": "{} at most",
    "exclusiveMaximum": "below {}", "minItems": "{} or more of them",
    "maxItems": "{} of them at most", "maxLength": "{} characters at most",
}  # fmt: skip


class _Section(NamedTuple):
    """A table of the file, where it stands, and its schema."""

    path: str
    schema: Mapping[str, Any]


def reference() -> str:
    """Return the page of the documentation, in Markdown."""
    whole = file_schema()
    known = whole["$defs"]
    needed = {**whole, "required": whole["then"].get("required", [])}
    parts = [_HEAD, *(_section(one, known) for one in _below("", needed, known))]
    return "\n".join([*parts, f"## An annotated file\n\n```toml\n{example()}```\n"])


def example() -> str:
    """Return a file that uses most keys, with a comment on each."""
    return resources.files("arena.scenario").joinpath("example.toml").read_text(encoding="utf-8")


def _below(path: str, table: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[_Section]:
    """Give a table and all tables inside it, each after the one that holds it."""
    # the demands of a file on its own, which one that extends another need not meet
    full: Mapping[str, Any] = next(_tables(known.get(table.get("title", ""), {}), known), {})
    yield _Section(path, {**table, "required": table.get("required", full.get("required", ()))})
    for key, node in table["properties"].items():
        for inner in _tables(node, known):
            yield from _below(f"{path}.{key}".lstrip("."), inner, known)


def _tables(node: Mapping[str, Any], known: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Give the tables that a key may hold, alone or in a list; not those of free form."""
    node = _resolved(node, known)
    if "properties" in node:
        yield node
    for inner in (*node.get("anyOf", ()), *([node["items"]] if "items" in node else [])):
        yield from _tables(inner, known)


def _resolved(node: Mapping[str, Any], known: Mapping[str, Any]) -> Mapping[str, Any]:
    name = node.get("$ref", "").rpartition("/")[2]
    found: Mapping[str, Any] = known.get(name, {}) if name != "JsonValue" else {}
    return {**found, **node} if name else node


def _section(one: _Section, known: Mapping[str, Any]) -> str:
    title = f"`{one.path}`" if one.path else "The file"
    lines = [f"## {title}", ""]
    if one.path and (meaning := one.schema.get("description")):
        lines += [" ".join(meaning.split()), ""]
    lines += ["| key | type | range | default | meaning |", "| --- | --- | --- | --- | --- |"]
    for key, node in one.schema["properties"].items():
        needed = key in one.schema["required"]
        cells = (f"`{key}`", _type(node, known), _range(node), _default(node, needed=needed),
                 _meaning(node, known))  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, ""])


def _meaning(node: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    found = _resolved(node, known).get("description") or next(
        (text for one in _tables(node, known) if (text := one.get("description"))), ""
    )
    return " ".join(found.partition("\n\n")[0].split())


def _type(node: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    node = _resolved(node, known)
    if "anyOf" in node:
        kinds = [_type(one, known) for one in node["anyOf"] if one.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if node.get("format") == "path":
        return "path"
    if node.get("type") == "array":
        inner = _type(node.get("items", {}), known)
        return f"list of {inner}" if inner else "list"
    return _TYPES.get(node.get("type", ""), "")


def _range(node: Mapping[str, Any]) -> str:
    """Say which values are allowed: choices, or bounds of numbers and lengths."""
    for option in node.get("anyOf", ()):
        if found := _range(option):
            return found
    choices = node.get("enum", [node["const"]] if "const" in node else [])
    if choices:
        return ", ".join(f"`{json.dumps(one)}`" for one in choices)
    said = [text.format(_number(node[key])) for key, text in _BOUNDS.items() if key in node]
    if "items" in node and (inner := _range(node["items"])):
        said.append(f"each {inner}")
    return ", ".join(said)


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:,}"


def _default(node: Mapping[str, Any], *, needed: bool) -> str:
    if needed:
        return "needed"
    value = node.get("default")
    return "" if value is None else f"`{json.dumps(value)}`"
