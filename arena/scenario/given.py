"""A scenario given in Python: overridden by values, its players named or given as classes."""

import logging
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from arena.registry import players
from arena.registry.catalog import Catalog
from arena.registry.classes import is_importable
from arena.scenario import Scenario
from arena.scenario.overrides import apply_values
from arena.scenario.point_table import set_in, table_of
from arena.scenario.reading import build, find, read, told_of
from envs.errors import ScenarioError
from envs.loading.imports import is_class_use

# `Any` in this file: tables, which carry no types.

Player = str | type | Mapping[str, Any]
"""A name, a class, or a table as a scenario file writes it, classes allowed inside."""

_log = logging.getLogger("arena")


def scenario_of(
    given: str | Path | Scenario,
    attackers: Player | Sequence[Player] | None,
    defenders: Player | Sequence[Player] | None,
    seeds: int | Iterable[int] | None,
    overrides: Mapping[str, Any],
    *,
    apart: bool,
) -> Scenario:
    """Build the scenario to play, and check every name in it.

    Args:
        given: a file, the name of a scenario that ships, or a loaded one.
        attackers: instead of the scenario's; see `Player`.
        defenders: likewise; a defence stands for a defender that brings it.
        seeds: instead of the scenario's.
        overrides: values by dotted key, set after the players.
        apart: whether other processes have to import classes.

    Raises:
        ScenarioError, UnknownName: the scenario, a name or a parameter is wrong.
    """
    if isinstance(given, Scenario):
        where, path = given.name, given.path
        raw = table_of(given)
    else:
        where, path = str(given), find(given)
        raw = read(path)
    tables = _Tables(raw, apart=apart)
    before = {_label("defenders", one) for one in raw.get("defenders", ())
              if isinstance(one, Mapping)}  # fmt: skip
    if attackers is not None:
        raw["attackers"] = [tables.attacker(one) for one in _several(attackers)]
    if defenders is not None:
        raw["defenders"] = [tables.defender(one) for one in _several(defenders)]
        chosen = {_label("defenders", one) for one in raw["defenders"]}
        raw["attackers"] = _meeting(raw.get("attackers", ()), before - chosen,
                                    all_kept=attackers is not None)  # fmt: skip
    values = {key: tables.plain(value) for key, value in overrides.items()}
    faults = set_in(raw, values) if isinstance(given, Scenario) else apply_values(raw, values)
    if seeds is not None:
        raw["seeds"] = [
            operator.index(seed) for seed in (seeds if isinstance(seeds, Iterable) else [seeds])
        ]
    scenario = build(raw, where, path=path, faults=faults)
    try:
        scenario.check()
    except ScenarioError as error:
        raise ScenarioError(told_of(where, str(error).splitlines())) from error
    return scenario


def _meeting(attackers: Iterable[Any], absent: Collection[object], *, all_kept: bool) -> list[Any]:
    """Leave out of attackers' tables the defenders that were not chosen, and who meets no other.

    Args:
        attackers: tables of a scenario.
        absent: names of its defenders that were not chosen.
        all_kept: the attackers were chosen too; one that meets no other is as it is, and refused.
    """
    found = []
    for one in attackers:
        if not isinstance(one, Mapping):
            found.append(one)
            continue
        lists = [key for key in ("against", "spares") if isinstance(one.get(key), list | tuple)]
        kept = {key: [name for name in one[key] if name not in absent] for key in lists}
        if kept.get("against", True) or not one["against"]:
            found.append({**one, **kept})
        elif all_kept:
            found.append(one)
    return found


def _several(given: Player | Sequence[Player]) -> Sequence[Player]:
    return [given] if isinstance(given, str | type | Mapping) else given


class _Tables:
    """Turns players into tables as a scenario file has them.

    Args:
        raw: the scenario, whose own players are found by name.
        apart: whether other processes have to import classes.
    """

    def __init__(self, raw: Mapping[str, Any], *, apart: bool) -> None:
        self._raw, self._apart = raw, apart

    def attacker(self, one: Player) -> Any:
        """Return the table of an attacker."""
        if isinstance(one, str):
            return self._own("attackers", one) or {"use": one}
        if isinstance(one, type):
            return {"use": self.plain(one), "name": one.__name__}
        return self.plain(one)

    def defender(self, one: Player) -> Any:
        """Return the table of a defender; a defence stands for a defender that brings it."""
        if isinstance(one, str):
            key = "use" if one in players.defenders.names() else "defence"
            return self._own("defenders", one) or {key: one}
        if isinstance(one, type):
            key = "use" if _kind(one) is players.defenders else "defence"
            return {key: self.plain(one), "name": one.__name__}
        return self.plain(one)

    def _own(self, kind: str, name: str) -> Any:
        tables = [one for one in self._raw.get(kind, ()) if isinstance(one, Mapping)]
        return next((one for one in tables if _label(kind, one) == name), None)

    def plain(self, value: Any) -> Any:
        """Return a value as TOML would give it; a class becomes what names it."""
        if isinstance(value, type):
            return self._use_of(value)
        if isinstance(value, Mapping):
            return {key: self.plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple | range):
            return [self.plain(item) for item in value]
        if getattr(value, "ndim", None) == 0 and hasattr(value, "item"):  # NumPy's and torch's
            return value.item()
        return str(value) if isinstance(value, Path) else value

    def _use_of(self, player: type) -> str:
        use, reason = _kind(player).use_of(player)
        if self._apart and is_class_use(use) and not is_importable(player):
            raise ScenarioError(
                f"workers cannot import {player.__qualname__} of {player.__module__}; "
                f"play with workers=1, or name it by its file"
            )
        if reason:
            _log.warning("%s is played each time, because %s", player.__qualname__, reason)
        return use


def _label(kind: str, table: Mapping[str, Any]) -> object:
    """Return the name of a table of players, as the scenario would."""
    from arena.scenario.schema import AttackerSpec, DefenderSpec

    model = AttackerSpec if kind == "attackers" else DefenderSpec
    try:
        # a sweep is written out later; its name is the one that the table has
        return model.model_validate({key: table[key] for key in table if key != "sweep"}).name
    except ValueError:  # told with the rest of the scenario
        return None


def _kind(player: type) -> Catalog:
    """Find which kind of player a class is.

    Raises:
        ScenarioError: none.
    """
    for catalog in (players.attackers, players.defenders, players.defences):
        if issubclass(player, catalog.base_class):
            return catalog
    raise ScenarioError(
        f"{player.__qualname__}: expected a subclass of agents.Attacker, agents.Defender or "
        f"envs.defences.base.Defence"
    )
