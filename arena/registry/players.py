"""Players by name: attackers, oracle wrappers, defenders and defences; and metrics of clones.

Ours are named here as text and imported when they are asked for. Those of others come from
installed distributions (entry points `arena.attackers`, `arena.wrappers`, `arena.defenders`,
`arena.defences`, `arena.metrics`) or straight from a file: `use = "path/to/file.py:Class"`.
"""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Literal, Protocol, cast, get_args

from arena.registry import classes, nested
from arena.registry.messages import Path, dotted
from arena.registry.parameters import Parameter, effective, parameters, validated
from envs.errors import ArenaError, ScenarioError, UnknownName
from envs.loading import imports as plugins

if TYPE_CHECKING:  # so that listing names loads no torch
    from agents.base import Attacker, OracleWrapper

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

    def inside(self, one: "Named", place: Path) -> object:
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


attackers = Catalog(
    "attacker",
    "agents.base:Attacker",
    {
        "noise": "agents.attackers.noise:Noise",
        "random-generator": "agents.attackers.random_generator:RandomGenerator",
        "dfme": "agents.attackers.dfme:DFME",
        "knockoff": "agents.attackers.knockoff:Knockoff",
        "active-thief": "agents.attackers.active_thief:ActiveThief",
        "s4l": "agents.attackers.s4l:S4L",
        "e3": "agents.attackers.e3:E3",
        "jbda": "agents.attackers.jbda:JBDA",
        "maze": "agents.attackers.maze:MAZE",
        "dfms-hl": "agents.attackers.dfms_hl:DFMSHL",
        "disguide": "agents.attackers.disguide:DisGUIDE",
        "dual-students": "agents.attackers.dual_students:DualStudents",
        "argmax": "agents.attackers.argmax:Argmax",
        "confidence-filter": "agents.attackers.confidence_filter:ConfidenceFilter",
        "latency-filter": "agents.attackers.latency_filter:LatencyFilter",
        "averaging": "agents.attackers.wrapped:Averaging",
        "recovery": "agents.attackers.wrapped:Recovery",
        "inversion": "agents.attackers.wrapped:Inversion",
        "relabelled": "agents.attackers.relabelling:Relabelled",
        "late-knockoff": "agents.attackers.late_knockoff:LateKnockoff",
        "decoy-filter": "agents.attackers.decoy_filter:DecoyFilter",
        "strategy-thief": "agents.attackers.strategy_thief:StrategyThief",
        "slowdown": "agents.attackers.slowdown:Slowdown",
        "repeats": "agents.attackers.repeats:Repeats",
        "campaign": "agents.attackers.campaign:Campaign",
        "exit-timing": "agents.attackers.exit_timing:ExitTiming",
    },
)

wrappers = Catalog(
    "wrapper",
    "agents.base:OracleWrapper",
    {
        "averaging": "agents.oracle_wrappers.averaging:Averaging",
        "recovery": "agents.oracle_wrappers.recovery:Recovery",
        "d-dae": "agents.oracle_wrappers.d_dae:DDAE",
        "inversion": "agents.oracle_wrappers.inversion:Inversion",
    },
)

defenders = Catalog(
    "defender",
    "agents.base:Defender",
    {
        "static": "agents.defenders.static:Static",
        "schedule": "agents.defenders.schedule:Schedule",
        "detector": "agents.defenders.detector:Detector",
        "bandit": "agents.defenders.bandit:Bandit",
        "prada": "agents.defenders.prada:Prada",
        "seat": "agents.defenders.seat:Seat",
        "feature-gaussian": "agents.defenders.feature_gaussian:FeatureGaussian",
        "account-clusters": "agents.defenders.account_clusters:AccountClusters",
    },
)

defences = Catalog(
    "defence",
    "envs.defences.base:Defence",
    {
        "undefended": "envs.defences.base:Defence",
        "dnf": "envs.defences.dnf:DNF",
        "dnf_plus": "envs.defences.dnf_plus:DNFPlus",
        "randp": "envs.defences.randp:RandP",
        "p-poison": "envs.defences.prediction_poisoning:PredictionPoisoning",
        "grad": "envs.defences.gradient_redirection:GradientRedirection",
        "meco": "envs.defences.meco:MeCo",
        "reverse-sigmoid": "envs.defences.reverse_sigmoid:ReverseSigmoid",
        "adaptive-misinformation": "envs.defences.adaptive_misinformation:AdaptiveMisinformation",
        "truncation": "envs.defences.truncation:Truncation",
        "modelguard-w": "envs.defences.modelguard:ModelGuardW",
        "modelguard-s": "envs.defences.modelguard:ModelGuardS",
        "timing": "envs.defences.timing:Timing",
        "stack": "envs.defences.stack:Stack",
    },
)

metrics = Catalog(
    "metric",
    "arena.evaluation.clone_metric:CloneMetric",
    {
        "adversarial-transfer": "arena.evaluation.adversarial_transfer:AdversarialTransfer",
    },
)

_ALL: Mapping[Kind, Catalog] = {
    "attacker": attackers,
    "defender": defenders,
    "defence": defences,
}


def of(kind: Kind) -> Catalog:
    """Return the catalog of one kind of player."""
    return _ALL[kind]


def find_in_file(use: str) -> type:
    """Return the class behind path/to/file.py:Class, whichever kind of player it is.

    Raises:
        ScenarioError: no such file or class, its import fails, or it is no player.
    """
    found = plugins.from_file(use)
    for catalog in _ALL.values():
        base = plugins.from_target(catalog.base)
        if isinstance(found, type) and isinstance(base, type) and issubclass(found, base):
            return catalog.find(use)
    raise ScenarioError(f"{use}: expected an attacker, a defender or a defence; subclass one of "
                        f"{', '.join(catalog.base for catalog in _ALL.values())}")  # fmt: skip


def create(kind: Kind, use: str, params: Mapping[str, object] | None = None) -> object:
    """Build an attacker, a defender or a defence; see `Catalog.create`."""
    return of(kind).create(use, params)


class Named(Protocol):
    """What a scenario or a plan says of a player: a name, and parameters."""

    @property
    def use(self) -> str:
        """Its name, or path/to/file.py:Class."""

    @property
    def params(self) -> Mapping[str, object]:
        """Its parameters."""


def create_attacker(spec: Named, behind: Sequence[Named], *, prefix: Path = ()) -> "Attacker":
    """Build an attacker behind oracle wrappers, the first of which stands next to the game.

    Args:
        spec: the attacker.
        behind: the wrappers.
        prefix: path of the attacker's table in the file, for the message.

    Raises:
        UnknownName, ScenarioError: see `Catalog.create`.
    """
    from agents.attackers.wrapped import Wrapped

    built = attackers.check(spec.use, spec.params, (*prefix, "params"))
    attacker = cast("Attacker", built)
    fronts = [
        cast("OracleWrapper", wrappers.inside(one, (*prefix, "wrappers", number)))
        for number, one in enumerate(behind)
    ]
    return Wrapped(attacker, fronts) if fronts else attacker


def learns_between_episodes(use: str) -> bool:
    """Tell whether a defender takes what it learnt from one episode to the next."""
    return bool(getattr(defenders.find(use), "learns_between_episodes", False))
