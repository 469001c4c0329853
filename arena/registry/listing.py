"""Everything a scenario can name, in one form for listings."""

from typing import TYPE_CHECKING, Literal, get_args

from arena.registry import players
from arena.registry.catalog import Entry, summary
from arena.registry.parameters import Parameter, parameters
from envs.errors import ScenarioError
from envs.loading import imports

if TYPE_CHECKING:
    from envs.data.sources import SourceInfo

Kind = Literal["attackers", "wrappers", "defenders", "defences", "metrics", "networks", "data"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def inventory(kind: Kind) -> list[Entry]:
    """List what there is of a kind, with a line and the parameters of each."""
    if kind == "networks":
        return _networks()
    if kind == "data":
        return _data()
    kinds = {
        "attackers": players.attackers,
        "wrappers": players.wrappers,
        "defenders": players.defenders,
        "defences": players.defences,
        "metrics": players.metrics,
    }
    return kinds[kind].describe()


def _networks() -> list[Entry]:
    from envs.nets import registry, user_networks

    ours = [
        Entry(
            name,
            registry.describe(name),
            registry.origin(name),
            _parameters(registry.parameters(name)),
        )
        for name in registry.names()
    ]
    others = [name for name in user_networks.offered() if registry.is_own(name)]
    return ours + [_installed(user_networks.GROUP, "network", name) for name in others]


def _installed(group: str, kind: str, name: str) -> Entry:
    """Describe what an installed distribution offers; a fault of its import is told there."""
    (origin, *_) = map(imports.distribution_of, imports.offered(group)[name])
    try:
        found = imports.from_target(imports.only_target(group, kind, name))
    except ScenarioError as error:
        return Entry(name, "", origin, fault=str(error))
    takes = tuple(parameters(found)) if callable(found) else ()
    return Entry(name, summary(found), origin, takes)


def _data() -> list[Entry]:
    from envs.data import own, sources

    entries = []
    for name in sources.names():
        info = sources.describe(name)
        options = info.options if info.playable else info.pool_options
        entries.append(Entry(name, info.summary, _whence(info), _parameters(options)))
    return entries + [_installed(own.GROUP, "data set", name) for name in own.offered()]


def _whence(info: "SourceInfo") -> str:
    """Say what has to be in the data root, and whether it can be fetched."""
    if not info.needs:
        return "built in"
    way = "; or download = true" if info.downloads else ""
    return f"the data root: {info.needs}{way}"


def _parameters(defaults: object) -> tuple[Parameter, ...]:
    assert isinstance(defaults, dict)
    return tuple(
        Parameter(name, "" if value is None else type(value).__name__, repr(value))
        for name, value in defaults.items()
    )
