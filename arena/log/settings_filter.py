"""Finds episodes by the settings of their plans, in SQLite and PostgreSQL alike."""

import json

from sqlalchemy import ColumnElement, Connection, Text, cast, or_, select

from arena.log.episode_filter import EpisodeFilter
from arena.log.tables import EPISODE
from envs.errors import ScenarioError, UnknownName

NONE = "none"
"""Stands for a setting that a plan does not have."""

_LOOKED_THROUGH = 1000  # newest plans that a suggestion is taken from


def setting_of(text: str) -> tuple[str, str]:
    """Read PATH=VALUE as a user types it, in quotes or without.

    Raises:
        ScenarioError: it is none.
    """
    path, equals, value = (part.strip() for part in text.partition("="))
    if not (path and equals and value):
        raise ScenarioError(f"expected a setting PATH=VALUE, like threat.budget=3000, got '{text}'")
    return path, value.strip("\"'")


def has_setting(path: str, value: str) -> ColumnElement[bool]:
    """Say that a plan has a value at a dotted path; `NONE` also where it has nothing there."""
    found = _at(path)
    if value == NONE:
        return or_(found.is_(None), found == NONE)
    return found.in_(sorted(_forms(value)))


def _at(path: str) -> ColumnElement[str]:
    """Give what a plan has at a path as text; NULL where it has nothing."""
    steps = tuple(int(step) if step.isdecimal() else step for step in path.split("."))
    # SQLite gives numbers as numbers, PostgreSQL as text
    return cast(EPISODE.c.plan[steps].as_string(), Text)


def _forms(value: str) -> set[str]:
    """List the texts by which the two databases write a value."""
    if value in ("true", "false"):
        return {value, "1" if value == "true" else "0"}
    try:
        number = float(value.replace("_", "") if value[:1].isdigit() else value)
    except ValueError:
        return {value}
    forms = {value, json.dumps(number), f"{number:.15g}"}
    mantissa, e, exponent = f"{number:.15g}".partition("e")
    if e and "." not in mantissa:
        forms.add(f"{mantissa}.0e{exponent}")
    return forms | ({str(int(number))} if number.is_integer() else set())


def require_known(connection: Connection, which: EpisodeFilter | None) -> None:
    """Refuse a filter by a path at which no plan has a setting: it would find nothing for ever.

    Raises:
        UnknownName: names the nearest path.
    """
    column = EPISODE.c
    for path, _ in () if which is None else which.where:
        some = select(column.id).where(_at(path).is_not(None)).limit(1)
        if connection.execute(some).first() is None:
            newest = select(column.plan).order_by(column.started.desc()).limit(_LOOKED_THROUGH)
            known = {
                other for plan in connection.execute(newest).scalars() for other in _paths(plan)
            }
            if known and path not in known:  # a null is a setting too
                raise UnknownName("setting", path, sorted(known))


def _paths(plan: object, prefix: str = "") -> list[str]:
    if isinstance(plan, dict):
        items: list[tuple[object, object]] = list(plan.items())
    elif isinstance(plan, list):
        items = list(enumerate(plan))
    else:
        return [prefix] if prefix else []
    return [
        path
        for key, item in items
        for path in _paths(item, f"{prefix}.{key}" if prefix else str(key))
    ]
