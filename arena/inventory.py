"""Everything a scenario can name, in one form for listings."""

from typing import Literal, get_args

from arena import catalog
from arena.catalog import Entry
from arena.parameters import Parameter

Kind = Literal["attackers", "defenders", "defences", "networks", "data"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def inventory(kind: Kind) -> list[Entry]:
    """List what there is of a kind, with a line and the parameters of each."""
    if kind == "networks":
        return _networks()
    if kind == "data":
        return _data()
    players = {
        "attackers": catalog.attackers,
        "defenders": catalog.defenders,
        "defences": catalog.defences,
    }
    return players[kind].describe()


def _networks() -> list[Entry]:
    from envs.nets import registry

    return [
        Entry(name, registry.describe(name), "built in", _parameters(registry.parameters(name)))
        for name in registry.names()
    ]


def _data() -> list[Entry]:
    from envs.data import sources

    entries = []
    for name in sources.names():
        info = sources.describe(name)
        options = info.options if info.playable else info.pool_options
        entries.append(Entry(name, info.summary, "built in", _parameters(options)))
    return entries


def _parameters(defaults: object) -> tuple[Parameter, ...]:
    assert isinstance(defaults, dict)
    return tuple(
        Parameter(name, "" if value is None else type(value).__name__, repr(value))
        for name, value in defaults.items()
    )
