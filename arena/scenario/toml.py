"""Writes TOML: the standard library reads it only."""

import json
import re
from collections.abc import Mapping, Sequence

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(table: Mapping[str, object]) -> str:
    """Write a table of plain values (texts, numbers, truth values, lists, tables) as TOML.

    Scalars come first, then `[tables]`, then `[[lists of tables]]`, so that the text reads like
    a file a person wrote. Reading it gives the same table.

    Raises:
        TypeError: a value that TOML has no form for, None among them.
    """
    return "\n".join(_lines(table, ())).strip() + "\n"


def _lines(table: Mapping[str, object], path: tuple[str, ...]) -> list[str]:
    blocks = {key: value for key, value in table.items() if _is_block(value, path)}
    lines = [f"{_key(key)} = {inline(table[key])}" for key in table if key not in blocks]
    for key, value in blocks.items():
        inner = (*path, key)
        name = ".".join(_key(part) for part in inner)
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]", *_lines(value, inner)]
        elif isinstance(value, Sequence):
            for entry in value:
                lines += ["", f"[[{name}]]", *_lines(entry, inner)]
    return lines


def _is_block(value: object, path: tuple[str, ...]) -> bool:
    """Tell what gets a heading of its own: at the top level, tables and lists of tables."""
    if path:
        return False
    if isinstance(value, Mapping):
        return bool(value)
    return (
        isinstance(value, Sequence)
        and bool(value)
        and all(isinstance(entry, Mapping) for entry in value)
    )


def inline(value: object) -> str:
    """Write one value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the delete character, which JSON leaves as it is
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inner = ", ".join(f"{_key(key)} = {inline(item)}" for key, item in value.items())
        return f"{{ {inner} }}" if inner else "{}"
    if isinstance(value, Sequence):
        return f"[{', '.join(inline(item) for item in value)}]"
    raise TypeError(f"TOML has no form for {type(value).__name__}")


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else inline(key)
