"""Parts the settings of episodes into what two sides must share and what is compared."""

import json
from collections.abc import Iterable
from typing import cast

from arena.analysis.games import Settings, differing_paths, setting_text
from arena.log.rows import EpisodeRow
from arena.scenario.overrides import parse_value
from arena.scenario.settings import flat, settings_of
from envs.errors import UnknownName

By = str
"""One of `SIDES`, or the path of a setting such as "threat.budget"."""

SIDES = ("attacker", "defender", "scenario", "run")


def name_of(row: EpisodeRow, by: By) -> str:
    """Give what an episode is to the comparison: a player's name, a run's id, a setting's value."""
    if by not in SIDES:
        return setting_text(_settings(row).get(by))
    names = {"attacker": row.attacker, "defender": row.defender, "scenario": row.scenario_name}
    return names.get(by, row.run_id)


def is_named(row: EpisodeRow, name: str, by: By) -> bool:
    """Tell whether an episode belongs to the side that a user names so."""
    if by not in SIDES:
        return setting_text(parse_value(name)) == name_of(row, by)
    return name_of(row, by).startswith(name.lower()) if by == "run" else name_of(row, by) == name


def _settings(row: EpisodeRow) -> Settings:
    """Give the settings of an episode by their paths, as a scenario file calls them."""
    return flat(settings_of(row.plan, measuring=False))


def require_setting(rows: Iterable[EpisodeRow], path: str) -> None:
    """Raise UnknownName for a path at which no episode has a setting."""
    known = {one for row in rows for one in _settings(row)}
    if path not in known:
        raise UnknownName("kind to compare by", path, [*SIDES, *sorted(known)])


def parted(row: EpisodeRow, by: By) -> tuple[str, Settings]:
    """Part the settings of an episode into what it must share and what is the compared one's."""
    plan = settings_of(row.plan, measuring=False)
    players: dict[str, Settings] = {
        "attacker": {"name": row.attacker, "params": row.attacker_params},
        "defender": {"name": row.defender, "params": row.defender_params},
    }
    world = {"victim_net": row.victim, "clone_net": row.clone, "data_name": row.data}
    if by not in SIDES:
        own, others = _without(plan, by)
        shared: Settings = {**players, "plan": others}
    elif by in players:
        own = {"player": players.pop(by), "plan": plan.pop(by, None)}
        shared = {**players, "world": world, "budget": row.budget, "plan": plan}
    elif by == "run":
        own, shared = {}, {**players, "world": world, "budget": row.budget, "plan": plan}
    else:
        own = {**world, "budget": row.budget, **players, "plan": plan}
        # a scenario is another question; who meets whom, on which data, has to be the same
        names = {side: {"name": player["name"]} for side, player in players.items()}
        shared = {**names, "data": row.data}
    return json.dumps(shared, sort_keys=True, default=str), own


def _without(plan: Settings, path: str) -> tuple[Settings, Settings]:
    """Part a setting from the others of a plan.

    What a network or data set is called takes its parameters and the digest of its files along.
    """
    *tables, name = path.split(".")
    taken = [path]
    if name == "use":
        taken = [".".join(tables), f"contents.{tables[-1]}"]
    settings = flat(plan)
    own = {
        one: value
        for one, value in settings.items()
        if any(one == head or one.startswith(f"{head}.") for head in taken)
    }
    return own, {one: value for one, value in settings.items() if one not in own}


def titles_of(keys: Iterable[str], by: By) -> dict[str, str]:
    """Name what both sides share, with the settings that tell one such from another."""
    shared = {key: json.loads(key) for key in keys}
    who = {key: who_meets(settings, by) for key, settings in shared.items()}
    titles = {}
    for key, settings in shared.items():
        alike = [flat(shared[other]) for other in shared if who[other] == who[key]]
        mine = flat(settings)
        apart = [
            f"{path.removeprefix('plan.')}={setting_text(mine[path])}"
            for path in differing_paths(alike)
            if path.startswith("plan.") and path in mine
        ]
        titles[key] = ", ".join((who[key], *apart))
    return titles


def who_meets(shared: Settings, by: By) -> str:
    """Name the players that both sides share."""
    names = {side: cast("Settings", shared.get(side, {})).get("name") for side in SIDES[:2]}
    if by == "attacker":
        return f"against {names['defender']}"
    if by == "defender":
        return f"under {names['attacker']}"
    return f"{names['attacker']} against {names['defender']}"


def differences(one: Settings, other: Settings) -> tuple[str, ...]:
    """List the settings in which two plans differ, as "path: first | second"."""
    ours, theirs = flat(one), flat(other)
    return tuple(
        f"{path}: {ours.get(path, 'absent')} | {theirs.get(path, 'absent')}"
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path, "absent") != theirs.get(path, "absent")
    )
