"""Sets values in the table of a scenario that was validated before, as `--set` does in its file.

Such a table tells more than the file: names that were filled in, and a defender's parameters
inside its defence. Keys mean in it what they mean in the file.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from arena.registry.messages import entry_position
from arena.scenario.overrides import apply_values, steps_of
from arena.scenario.schema import AttackerSpec, DefenderSpec, MetricSpec, ScenarioFile

# `Any` in this file: tables as TOML gives them.

_MODELS: Mapping[str, type[AttackerSpec | DefenderSpec | MetricSpec]] = {
    "attackers": AttackerSpec,
    "defenders": DefenderSpec,
    "metrics": MetricSpec,
}


def table_of(scenario: ScenarioFile) -> dict[str, Any]:
    """Return what a scenario says, its seeds as they were drawn."""
    table = scenario.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return table | {"seeds": list(scenario.seeds)}


def set_in(table: dict[str, Any], values: Mapping[str, Any]) -> list[str]:
    """Set values in place by keys as `--set` takes them.

    Whoever is named after what they are goes by the new name where that changes.

    Returns:
        one line for each key that leads nowhere.
    """
    unnamed = list(_named_after_use(table))
    faults = []
    for key, value in values.items():
        faults += apply_values(table, {_in_defence(table, key): value})
    if not any(key.endswith(".name") for key in values):
        for one in unnamed:
            one.pop("name", None)
    return faults


def _named_after_use(table: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Find the tables of players and metrics whose name is the one that they get without any."""
    for kind, model in _MODELS.items():
        for one in table.get(kind, ()):
            if isinstance(one, dict) and "name" in one:
                rest = {key: value for key, value in one.items() if key != "name"}
                try:
                    usual = model.model_validate(rest).name
                except ValueError:  # told with the rest of the scenario
                    continue
                if usual == one["name"]:
                    yield one


def _in_defence(table: Mapping[str, Any], key: str) -> str:
    """Lead `params` of a defender to its one defence, where the table has them."""
    steps = steps_of(table, key)
    players = table.get("defenders")
    if steps[0] != "defenders" or steps[2:3] != ["params"] or not isinstance(players, list):
        return key
    position = entry_position(players, steps[1])
    player = None if position is None else players[position]
    if not isinstance(player, Mapping) or not _brings_one(player):
        return key
    return ".".join([*steps[:2], "defence", "0", *steps[2:]])


def _brings_one(defender: Mapping[str, Any]) -> bool:
    brought = defender.get("defence")
    return isinstance(brought, list) and len(brought) == 1
