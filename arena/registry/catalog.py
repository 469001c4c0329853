"""A catalog of players of one kind: from a name to a class, and from a class to a player.

Names of ours lead to text, and are imported when they are asked for. Those of others come from
installed distributions (entry points `arena.attackers`, `arena.wrappers`, `arena.defenders`,
`arena.defences`, `arena.metrics`) or straight from a file: `use = "path/to/file.py:Class"`.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import Literal, Protocol, get_args

from arena.registry import classes, nested
from arena.registry.messages import Path, dotted
from arena.registry.parameters import Parameter, effective, parameters, validated
from envs.errors import ArenaError, ScenarioError, UnknownName
from envs.loading import imports as plugins

Kind = Literal["attacker", "defender", "defence"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a listing.

    Attributes:
        name: what scenarios write after `use`.
        summary: first line of its docstring.
        origin: "built in", the distribution it comes from, or the files it needs.
        parameters: what it can be told.
        fault: why it cannot be imported; "" where it can.
    """

    name: str
    summary: str
    origin: str
    parameters: tuple[Parameter, ...] = ()
    fault: str = ""


class Named(Protocol):
    """What a scenario or a plan says of a player: a name, and parameters."""

    @property
    def use(self) -> str:
        """Its name, or path/to/file.py:Class."""

    @property
    def params(self) -> Mapping[str, object]:
        """Its parameters."""


@dataclass(frozen=True)
class Catalog:
    """The names of one kind of player.

    Attributes:
        kind: "attacker", "wrapper", "defender", "defence" or "metric".
        base: "module:Class" that every one of them subclasses.
        builtin: name to "module:Class".
    """

    kind: Kind | Literal["wrapper", "metric"]
    base: str
    builtin: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The entry-point group."""
        return f"arena.{self.kind}s"

    @cached_property
    def _offered(self) -> dict[str, list[EntryPoint]]:
        return plugins.offered(self.group)

    def names(self) -> list[str]:
        """List every name, ours first."""
        return [*self.builtin, *(name for name in self._offered if name not in self.builtin)]

    def find(self, use: str) -> type:
        """Return the class behind a `use`.

        Raises:
            UnknownName: there is none; the message names the nearest.
            ScenarioError: its import fails, or it is no player of this kind.
        """
        found: object
        if plugins.is_file_use(use):
            found = plugins.from_file(use)
        elif plugins.is_class_use(use):
            found = classes.find_class(use)
        elif use in self.builtin:
            found = plugins.from_target(self.builtin[use])
        elif use in self._offered:
            found = plugins.from_target(plugins.only_target(self.group, self.kind, use))
        else:
            raise UnknownName(self.kind, use, self.names())
        return self._checked(found, plugins.short_name(use) if plugins.is_class_use(use) else use)

    def use_of(self, player: type) -> tuple[str, str]:
        """Return what scenarios write for a class, and why no source identifies it.

        Returns:
            its name where it is one of ours; the reason is "" where there is a source.

        Raises:
            ScenarioError: it is no player of this kind.
        """
        self._checked(player, player.__qualname__)
        own = f"{player.__module__}:{player.__qualname__}"
        named = next((name for name, target in self.builtin.items() if target == own), None)
        return (named, "") if named is not None else classes.register(player)

    @cached_property
    def base_class(self) -> type:
        """The class that every one of them subclasses."""
        base = plugins.from_target(self.base)
        assert isinstance(base, type)
        return base

    def _checked(self, found: object, use: str) -> type:
        base = self.base_class
        if not isinstance(found, type) or not issubclass(found, base):
            raise ScenarioError(
                f"{use}: expected a subclass of {base.__module__}.{base.__name__}, "
                f"got {found.__name__ if isinstance(found, type) else type(found).__name__}"
            )
        if inspect.isabstract(found):
            missing = ", ".join(sorted(getattr(found, "__abstractmethods__", ())))
            raise ScenarioError(f"{use}: {found.__name__} does not define {missing}")
        return found

    def create(self, use: str, params: Mapping[str, object] | None = None) -> object:
        """Build a player.

        Raises:
            UnknownName, ScenarioError: see `find`; or a parameter is wrong.
        """
        return self._built(use, params or {}, prefix=(self.kind, use, "params"))

    def check(self, use: str, params: Mapping[str, object], prefix: Path) -> object:
        """Build a player as a trial; faults of its parameters are told under the path `prefix`."""
        return self._built(use, params, prefix=prefix)

    def _built(self, use: str, params: Mapping[str, object], *, prefix: Path) -> object:
        found = self.find(use)
        parted = nested.part(found, params, self.base_class, prefix=prefix)
        players = {
            name: [self.inside(one, (*prefix, name, number)) for number, one in enumerate(inner)]
            for name, inner in parted.inner.items()
        }
        arguments = validated(found, {**parted.values, **players}, prefix=prefix)
        try:
            return found(**arguments)
        except (ArenaError, TypeError, ValueError) as error:
            raise ScenarioError(f"{dotted(prefix)}: {error}") from error

    def inside(self, one: Named, place: Path) -> object:
        """Build a player inside another; an unknown name is told with its place."""
        try:
            return self._built(one.use, one.params, prefix=(*place, "params"))
        except UnknownName as error:
            raise ScenarioError(f"{dotted(place)}: {error}") from error

    def resolve(self, use: str, params: Mapping[str, object]) -> tuple[dict[str, object], str]:
        """Return the parameters with defaults filled in, and a digest of the player's code.

        The digest is "" for ours, which the version of the rules stands for.
        """
        found = self.find(use)
        parted = nested.part(found, params, self.base_class)
        plain = effective(found, parted.values)
        for name, inner in parted.inner.items():
            plain[name] = [self._resolved(one) for one in inner]
        return dict(sorted(plain.items())), self._digest(use)

    def _resolved(self, one: nested.Inner) -> dict[str, object]:
        params, code = self.resolve(one.use, one.params)
        return {"use": one.use, "params": params, "code": code}

    def _digest(self, use: str) -> str:
        if plugins.is_file_use(use):
            return plugins.file_digest(use)
        if plugins.is_class_use(use):
            return classes.class_digest(use)
        return (
            ""
            if use in self.builtin
            else plugins.package_digest(plugins.only_target(self.group, self.kind, use))
        )

    def describe(self) -> list[Entry]:
        """List everything with a line about it; what cannot be imported says why."""
        return [self._entry(name) for name in self.names()]

    def _entry(self, name: str) -> Entry:
        ours = name in self.builtin
        origin = "built in" if ours else plugins.distribution_of(self._offered[name][0])
        try:
            found = self.find(name)
        except ArenaError as error:
            return Entry(name, "", origin, fault=str(error))
        return Entry(name, summary(found), origin, tuple(parameters(found)))


def summary(found: object) -> str:
    """Return the first line of a docstring of its own, "" where there is none."""
    own = found.__dict__.get("__doc__") if isinstance(found, type) else inspect.getdoc(found)
    return inspect.cleandoc(own).partition("\n")[0] if own else ""
