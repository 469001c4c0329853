"""Turns what pydantic finds wrong into lines that a person can act on.

Each line is `path: what was expected, what came`. The expectation is read from the model's JSON
Schema, so that bounds and choices are stated where they were written down, once.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema

# `Any` in this file: JSON Schemas, which have no static type.

Schema = Mapping[str, Any]
Path = Sequence[str | int]

MESSAGE = "arena"
"""The type of a PydanticCustomError whose message is shown as it stands."""


def problems(
    error: ValidationError,
    model: type[BaseModel],
    *,
    prefix: Path = (),
    noun: str = "key",
    raw: object = None,
) -> list[str]:
    """Word every problem of a validation, one line each, without repeats.

    Args:
        error: what pydantic raised.
        model: what was validated against.
        prefix: path of the validated table in the file.
        noun: what an entry of the table is called ("key", "parameter").
        raw: the validated data; lists of named tables are then shown by name.
    """
    root = schema_of(model)
    lines: dict[str, None] = {}
    seen: set[str] = set()
    faults = error.errors(include_url=False)
    for fault in faults:
        if any(_is_below(other["loc"], fault["loc"]) for other in faults):
            continue  # a list that is too short once its faulty entries are left out
        path, schema = _follow(fault["loc"], root)
        shown = dotted([*prefix, *named(path, raw)])
        if fault["type"] == "extra_forbidden":
            line = unknown(shown, str(fault["loc"][-1]), _properties(schema, root), noun=noun)
        elif fault["type"] == "missing":
            line = f"{shown}: missing; expected {expectation(schema, root) or 'a value'}"
        elif fault["type"] == MESSAGE:
            line = f"{shown}: {fault['msg']}" if shown else str(fault["msg"])
        elif shown in seen:  # the other members of a union say the same again
            continue
        else:
            wanted = expectation(schema, root) or str(fault["msg"])
            line = f"{shown}: expected {wanted}, got {value_text(fault['input'])}"
        seen.add(shown)
        lines[line] = None
    return list(lines)


def _is_below(path: Path, other: Path) -> bool:
    return len(path) > len(other) and path[: len(other)] == other


def unknown(path: str, name: str, known: Iterable[str], *, noun: str = "key") -> str:
    """Word the line about a name that is not there, with the nearest one that is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f"{path}: unknown {noun}; did you mean '{close[0]}'?"
    return f"{path}: unknown {noun}; " + (
        f"known: {', '.join(names)}" if names else "there is none"
    )


def value_text(value: object) -> str:
    """Show a value as it came, shortened to fit a line."""
    if isinstance(value, Mapping):
        return f"a table with {', '.join(value) or 'no keys'}"
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of more than 60 digits"  # Python writes none of more than 4,300
    text = ("false", "true")[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def dotted(path: Path) -> str:
    """Write a path the way `--set` takes it."""
    return ".".join(str(part) for part in path)


def named(path: Path, raw: object) -> list[str | int]:
    """Replace positions in lists by the `name`, or else the `use`, of the entry there.

    A name that two entries share stays a position.
    """
    shown: list[str | int] = []
    for part in path:
        labels = entry_labels(raw) if isinstance(raw, list) else []
        if isinstance(part, int) and part < len(labels) and labels.count(labels[part]) == 1:
            shown.append(labels[part] or part)
        else:
            shown.append(part)
        raw = _item(raw, part)
    return shown


def entry_labels(entries: Sequence[object]) -> list[str]:
    """Label each entry of a list by its `name`, or else its `use`; "" where it has neither."""
    labels = []
    for entry in entries:
        table = entry if isinstance(entry, Mapping) else {"use": entry}
        label = table.get("name") or table.get("use")
        labels.append(label if isinstance(label, str) and "/" not in label else "")
    return labels


def entry_position(entries: Sequence[object], step: str) -> int | None:
    """Find an entry of a list by its position or its label; None where there is none."""
    if step.isdecimal() and len(step) < 10:  # Python reads no number of any length
        return int(step) if int(step) < len(entries) else None
    labels = entry_labels(entries)
    return labels.index(step) if step in labels else None


def _item(raw: object, part: str | int) -> object:
    if isinstance(raw, list) and isinstance(part, int) and part < len(raw):
        return raw[part]
    return raw.get(part) if isinstance(raw, Mapping) else None


def schema_of(model: type[BaseModel]) -> Schema:
    """Return the model's JSON Schema; empty at a type that has none."""
    return model.model_json_schema(schema_generator=_Lenient)


class _Lenient(GenerateJsonSchema):
    """Leaves a gap where a type or a default has no JSON Schema (a function, a network)."""

    ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}  # noqa: RUF012

    def handle_invalid_for_json_schema(self, schema: object, error_info: str) -> dict[str, Any]:
        """Say nothing about such a type."""
        return {}


def expectation(schema: Schema | None, root: Schema) -> str:
    """Say in words what a JSON Schema accepts; "" where that is unknown."""
    schema = _resolve(schema, root)
    if "anyOf" in schema:
        parts = [expectation(option, root) for option in schema["anyOf"]]
        return " or ".join(dict.fromkeys(part for part in parts if part))
    if "const" in schema:
        return repr(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(repr(choice) for choice in schema["enum"])
    return _KINDS.get(schema.get("type", ""), "") + _bounds(schema)


_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a table",
}


def _bounds(schema: Schema) -> str:
    parts = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "of at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "of at most" if "minimum" not in schema else "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in schema
    ]
    for key, word in (
        ("minItems", "of at least {}"),
        ("maxItems", "of at most {}"),
        ("maxLength", "of at most {} characters"),
    ):
        if key in schema:
            parts.append(word.format(schema[key]))
    if "pattern" in schema:
        parts.append(f"like {schema['pattern']}")
    return f" {' and '.join(parts)}" if parts else ""


def _resolve(schema: Schema | None, root: Schema) -> Schema:
    while schema and "$ref" in schema:
        schema = root.get("$defs", {}).get(schema["$ref"].rpartition("/")[2])
    return schema or {}


def _follow(path: Path, root: Schema) -> tuple[list[str | int], Schema]:
    """Walk down a path as far as the schema knows it.

    Pydantic ends the path of a union with the member that failed, which is no place in the file.
    A last step that the schema does not know is kept when it comes from the file's own table.
    """
    schema = root
    walked: list[str | int] = []
    for position, part in enumerate(path):
        step = _step(schema, part, root)
        if step is None:
            is_key = position == len(path) - 1 and "object" in _types(schema, root)
            return ([*walked, part] if is_key else walked), schema
        schema = step
        walked.append(part)
    return walked, schema


def _options(schema: Schema, root: Schema) -> list[Schema]:
    schema = _resolve(schema, root)
    if "anyOf" in schema:
        return [inner for option in schema["anyOf"] for inner in _options(option, root)]
    return [schema]


def _types(schema: Schema, root: Schema) -> set[str]:
    return {option.get("type", "") for option in _options(schema, root)}


def _properties(schema: Schema, root: Schema) -> list[str]:
    return [key for option in _options(schema, root) for key in option.get("properties", {})]


def _step(schema: Schema, part: str | int, root: Schema) -> Schema | None:
    for option in _options(schema, root):
        if isinstance(part, int):
            prefix: list[Schema] = option.get("prefixItems", [])
            found = prefix[part] if part < len(prefix) else option.get("items")
        else:
            found = option.get("properties", {}).get(part)
        if found is not None:
            return dict(found)
    return None
