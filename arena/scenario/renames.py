"""Accepts keys of older scenario files under the names that they have today."""

from collections.abc import Mapping
from typing import Any, NamedTuple

# `Any` in this file: tables as TOML gives them, before they are validated.


class Rename(NamedTuple):
    """A key of the built-in players that was renamed.

    Attributes:
        players: the list of players, "attackers" or "defenders".
        table: the table of a player in which the key stood, at any depth.
        old, new: the key then and now.
        uses: names of the players; others may use the old word for something else.
    """

    players: str
    table: str
    old: str
    new: str
    uses: frozenset[str]


RENAMES = (
    Rename(
        "defenders",
        "policy",
        "post",
        "defence",
        frozenset({"static", "schedule", "detector", "bandit"}),
    ),
)


def with_new_names(raw: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the table under today's names, and a line for each player that used an old one."""
    table, lines = dict(raw), []
    for rename in RENAMES:
        players = table.get(rename.players)
        if not isinstance(players, list):
            continue
        changed = [_player(player, rename) for player in players]
        lines += [
            f"{rename.players}.{new.get('name', number)}.{rename.table}: "
            f"'{rename.old}' is called '{rename.new}' now; the old name still works"
            for number, (old, new) in enumerate(zip(players, changed, strict=True))
            if isinstance(new, Mapping) and old != new  # what is no table may be NaN: unlike itself
        ]
        table[rename.players] = changed
    return table, lines


def _player(player: Any, rename: Rename) -> Any:
    if not isinstance(player, Mapping) or rename.table not in player:
        return player
    use = player.get("use", "static")
    if not isinstance(use, str) or use not in rename.uses:
        return player
    return {**player, rename.table: _renamed(player[rename.table], rename)}


def _renamed(value: Any, rename: Rename) -> Any:
    """Rename the key at every depth; beside the new key the old one is left for the checks."""
    if isinstance(value, list):
        return [_renamed(item, rename) for item in value]
    if not isinstance(value, Mapping):
        return value
    keep = rename.new in value
    return {
        rename.new if key == rename.old and not keep else key: _renamed(item, rename)
        for key, item in value.items()
    }
