"""Sorts episodes into games: the players that met in one scenario, under the same settings.

A budget, a network or a data set is no player. Whoever compares players compares them under the
same settings; players of the same names under other settings play another game.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from arena.log.rows import EpisodeRow
from arena.scenario.settings import flat, settings_of

Settings = Mapping[str, object]


class Game(NamedTuple):
    """A scenario under one set of settings.

    Attributes:
        scenario: its name.
        setting: what tells it from other games of the scenario, such as "threat.budget=3000"; ""
            where there is one alone.
    """

    scenario: str
    setting: str

    @property
    def title(self) -> str:
        """Name it for people."""
        return f"{self.scenario}, {self.setting}" if self.setting else self.scenario


class Parts(NamedTuple):
    """The settings of an episode as JSON, by whom they belong to; without the seed.

    Attributes:
        world: of the game.
        pool: the attacker's images: a scenario may give each attacker its own.
        attacker, defender: of the players.
        named: digests of data sets that players name in their parameters.
    """

    world: str
    pool: str
    attacker: str
    defender: str
    named: str


def parts_of(episode: EpisodeRow) -> Parts:
    """Part the settings of an episode; columns stand for what a plan does not say."""
    plan: dict[str, object] = {
        "victim": episode.victim,
        "clone": episode.clone,
        "data": episode.data,
        "threat": {"budget": episode.budget},
        "attacker": {"params": episode.attacker_params},
        "defender": {"params": episode.defender_params},
        **settings_of(episode.plan, measuring=False),
    }
    attacker, defender = plan.pop("attacker"), plan.pop("defender")
    threat, contents = _table(plan.pop("threat")), _table(plan.pop("contents", {}))
    pool = {"threat": {"pool": threat.pop("pool", None)}, "contents": _taken(contents, "pool")}
    named = {"contents": _taken(contents, *(role for role in contents if " " in role))}
    world = {**plan, "threat": threat, "contents": contents}
    players = ({"attacker": attacker}, {"defender": defender})
    return Parts(*map(_as_json, (world, pool, *players, named)))


def world_of(episode: EpisodeRow) -> Settings:
    """Return the settings of an episode's game by dotted path, players left out."""
    return flat(json.loads(parts_of(episode).world))


def _table(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, Mapping) else {}


def _taken(table: dict[str, object], *names: str) -> dict[str, object]:
    return {name: table.pop(name) for name in names if name in table}


# one encoder for all calls: json.dumps with options builds a new one per value
_ENCODER = json.JSONEncoder(sort_keys=True, default=str)


def _as_json(value: object) -> str:
    return _ENCODER.encode(value)


class Played(NamedTuple):
    """What an episode played: a game, and all its settings by whom they belong to."""

    game: Game
    parts: Parts


def games_of(episodes: Iterable[EpisodeRow]) -> dict[str, Played]:
    """Tell which game each episode belongs to, by its id.

    Pools count among the settings where an attacker was played with several.
    """
    scenarios: dict[str, dict[str, tuple[str, Parts]]] = defaultdict(dict)
    for row in episodes:
        scenarios[row.scenario_name][row.id] = row.attacker, parts_of(row)
    games: dict[str, Played] = {}
    for scenario, rows in scenarios.items():
        pools = len({(attacker, parts.pool) for attacker, parts in rows.values()})
        several = pools > len({attacker for attacker, _ in rows.values()})
        keys = {
            id: (parts.world, parts.pool if several else "{}") for id, (_, parts) in rows.items()
        }
        labels = told_apart(keys.values())
        games |= {id: Played(Game(scenario, labels[key]), rows[id][1]) for id, key in keys.items()}
    return games


def told_apart(settings: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Write down for each of some settings (as JSON tables) what the others have otherwise.

    Digests of files are written down only where nothing else tells two settings apart.
    """
    each = {key: _flat(key) for key in dict.fromkeys(settings)}
    differing = differing_paths(list(each.values()))
    plain = [path for path in differing if not path.startswith("contents.")]
    labels = {key: _label(one, plain) for key, one in each.items()}
    if len(set(labels.values())) < len(each):
        labels = {key: _label(one, differing) for key, one in each.items()}
    return labels


def _flat(tables: tuple[str, ...]) -> dict[str, object]:
    paths: dict[str, object] = {}
    for table in tables:
        paths |= flat(json.loads(table))
    return paths


def differing_paths(settings: Sequence[Settings]) -> list[str]:
    """List the paths at which flat settings differ; one that is missing counts as none."""
    paths = sorted(set().union(*settings))
    return [path for path in paths if len({_as_json(one.get(path)) for one in settings}) > 1]


def _label(settings: Settings, paths: Sequence[str]) -> str:
    return ", ".join(f"{path}={setting_text(settings[path])}" for path in paths if path in settings)


def setting_text(value: object) -> str:
    """Write the value of a setting as a user types it."""
    return (
        value if isinstance(value, str) else json.dumps(value, default=str).replace("null", "none")
    )
