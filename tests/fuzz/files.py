"""Mutated scenario files and `--set` texts: read, checked, planned and written out again."""

import json
from pathlib import Path
from random import Random
from typing import Any

import tomli_w

from arena.scenario.reading import load, read, shipped
from envs.errors import ArenaError
from tests.fuzz.mutation import damage_table, damaged_bytes, damaged_text, places, strange

# `Any` in this file: tables as TOML gives them.


def scenario(random: Random, folder: Path) -> str:
    """Try a shipped scenario with some of its values, keys or bytes changed."""
    path = random.choice(list(shipped().values()))
    file = folder / "mutated.toml"
    if random.random() < 0.3:
        file.write_bytes(damaged_bytes(path.read_bytes(), random))
        return _tried(file)
    table = read(path)
    for _ in range(random.choice((1, 1, 2, 3))):
        damage_table(table, random)
    file.write_bytes(_written(table))
    return _tried(file)


def override(random: Random, folder: Path) -> str:
    """Try a shipped scenario with one `--set`, or two."""
    name, path = random.choice(list(shipped().items()))
    known = places(read(path))
    texts = []
    for _ in range(random.randint(1, 2)):
        steps = [str(step) for step in random.choice(known)]
        if random.random() < 0.3:
            steps.append(random.choice(("params", "use", "pool", "0", "-1", "", "x", "recipe")))
        key = ".".join(steps)
        if random.random() < 0.2:
            key = damaged_text(key, random)
        texts.append(key + random.choice(("=", "=", "=", "=", "", "==", " = ")) + _text(random))
    return _tried(name, texts)


def _text(random: Random) -> str:
    """Write a value as TOML, nearly, or as anything."""
    value = strange(random)
    text = value if isinstance(value, str) else json.dumps(value).replace(": ", " = ")
    if random.random() < 0.3:
        return damaged_text(text, random)
    return random.choice((text, text, f'"{text}"', f"[{text}]", f"{{use = {text}}}"))


def _written(table: dict[str, Any]) -> bytes:
    """Write a table as TOML, with halves of characters as the bytes they are."""
    return tomli_w.dumps(table).encode("utf-8", "surrogatepass")


def _tried(where: Path | str, overrides: list[str] | None = None) -> str:
    try:
        found = load(where, overrides or ())
        found.check()
        for plan in found.plans()[:20]:
            assert plan.hash
    except ArenaError:
        return "refused"
    assert found.text
    return "taken"
