"""Strange values, and small damage to tables, texts and bytes. All drawn from a given generator."""

import copy
import math
from random import Random
from typing import Any

# `Any` in this file: tables as TOML and JSON give them.

STRANGE = (
    -5, -1, 0, 1, 2, 7, 10**9, 2**31, 2**62, 2**63, 10**30,
    0.0, -0.0, 0.5, 1.5, 1e-300, 1e300, -1e9, math.nan, math.inf, -math.inf,
    True, False, "", " ", "none", "all", "digits", "noise", "dfme", "dnf", "resnet18", "\0",
    "\ud800", "\x1b[2J", "a/b", "..", "~nobody/x", "/dev/null", "x" * 300, "é\u2028", "1e5",
    "quickstart", "a.py:B", "../a.py:B", "a.py:", ":", "=", "{}", [], [[]], [0], [-1.0], ["x"],
    [1, "a"], {}, {"use": "noise"}, {"use": 3}, {"a": 1}, {"": ""}, {"use": "noise", "params": []},
)  # fmt: skip
_LETTERS = "abcxyz._-= \"'[]{}#\n0159é\0"


def strange(random: Random) -> Any:
    """Draw a value that nobody, or hardly anybody, writes."""
    return copy.deepcopy(random.choice(STRANGE))


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """List the paths of all values below a table or list."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += places(item, (*path, key))
    return found


def damage_table(table: dict[str, Any], random: Random) -> None:
    """Change one place of a table."""
    found = places(table)
    if not found:
        return
    *steps, last = random.choice(found)
    below: Any = table
    for step in steps:
        below = below[step]
    change = random.randrange(7)
    if change == 0:
        del below[last]
    elif change == 1:
        below[last] = [below[last]]
    elif change == 2:
        below[last] = {"use": below[last]}
    elif change == 3 and isinstance(below, dict):
        below[damaged_text(str(last), random)] = below.pop(last)
    elif change == 4 and isinstance(below, list):
        below.append(copy.deepcopy(below[last]))
    elif change == 5 and isinstance(below[last], int | float):
        below[last] = below[last] * random.choice((-1, 0, 0.3, 1e6, 10**15))
    else:
        below[last] = strange(random)


def damaged_text(text: str, random: Random) -> str:
    """Insert, leave out or exchange a few characters."""
    letters = list(text)
    for _ in range(random.randint(1, 3)):
        place = random.randint(0, len(letters))
        letters[place : place + random.randint(0, 1)] = random.choice(("", *_LETTERS))
    return "".join(letters)


def damaged_bytes(content: bytes, random: Random) -> bytes:
    """Overwrite, cut out, double, or cut off."""
    if not content:
        return random.randbytes(3)
    place, length = random.randrange(len(content)), random.choice((1, 2, 8, 100, 4096))
    change = random.randrange(4)
    if change == 0:
        return content[:place]
    if change == 1:
        return content[:place] + content[place + length :]
    if change == 2:
        return content[:place] + content[place : place + length] + content[place:]
    return content[:place] + random.randbytes(length) + content[place + length :]
