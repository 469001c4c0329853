"""The two players of the game, and what they are lent.

Write an attacker by subclassing `Attacker` and overriding `attack`; the smallest one there is,
`agents/attackers/noise.py`, is where to start reading.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

import torch
from torch import nn

from envs.data.images import ImageSet
from envs.errors import NotGranted, PlayerError
from envs.game.rounds import Countermeasure, OwnVictim, Served, View
from envs.oracle import Oracle

T = TypeVar("T")

NEEDS = frozenset({"soft-labels", "latency", "pool"})
"""What an attacker may require of the threat model."""


@dataclass(frozen=True, slots=True)
class ArchitectureGuess:
    """What an attacker believes about how the victim is built; None says "unknown".

    Attributes:
        family: "resnet", "vgg", "mobilenet", ...
        architecture: the registered name of a network.
        depth: weighted layers.
        width: channels of the first stage.
        exits_visited: distinguishable exits that answered the attacker.
        exits: exits that exist.
        exit_costs: cost of each visited exit relative to the deepest visited one, ascending.
        thresholds: confidence that lets an answer leave, by exit.
        confidence: belief in each attribute, 0 to 1, by its name here.
    """

    family: str | None = None
    architecture: str | None = None
    depth: int | None = None
    width: int | None = None
    exits_visited: int | None = None
    exits: int | None = None
    exit_costs: tuple[float, ...] | None = None
    thresholds: tuple[float, ...] | None = None
    confidence: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Kit:
    """What the match lends an attacker.

    Attributes:
        device: where its networks and images live.
        generator: its random stream, on the device. Nothing else may draw its chance.
        new_clone: builds a freshly initialised clone; maps (n, c, h, w) in [0, 1] to logits. It
            normalises images by the surrogate pool's mean and deviation where the attacker requires
            the pool, and not at all elsewhere, unless the threat model grants the victim's.
        shared_findings: what earlier phases of a campaign found, by name.
    """

    device: torch.device
    generator: torch.Generator
    new_clone: Callable[[], nn.Module]
    shared_findings: dict[str, object] = field(default_factory=dict)
    surrogate_pool: ImageSet | None = None
    on_report: Callable[[Mapping[str, float]], None] = lambda values: None
    on_note: Callable[[str, str, Mapping[str, object]], None] = lambda kind, message, data: None
    on_safe_point: Callable[[], None] = lambda: None

    @property
    def pool(self) -> ImageSet:
        """The surrogate pool: images the attacker owns. NotGranted if the scenario names none."""
        if self.surrogate_pool is None:
            raise NotGranted("this scenario lends no surrogate pool; set threat.pool to a data set")
        return self.surrogate_pool

    def report(self, **values: float) -> None:
        """Show progress (losses, shares); call it every so often, numbers only."""
        self.on_report(values)

    def note(self, kind: str, message: str, **data: object) -> None:
        """Write down in the log what was found out: a few times per attack, data in JSON values."""
        self.on_note(kind, message, data)

    def safe_point(self) -> None:
        """Let the match save the episode here, if it wants to; costs nothing where it does not.

        For attackers with `resume`: call it between two steps, never amid one.
        """
        self.on_safe_point()


class Attacker(ABC):
    """A player who copies a victim, and perhaps finds out how it is built.

    Set `self.clone` early: the referee measures it along the way. An uncaught
    `BudgetExhausted` ends the episode normally.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    """What the threat model must grant, out of `NEEDS`; checked before the first query."""

    clone: nn.Module | None = None
    inferred: ArchitectureGuess | None = None

    @abstractmethod
    def attack(self, oracle: Oracle, kit: Kit) -> None:
        """Spend the budget and train `self.clone`."""

    def resume(self, oracle: Oracle, kit: Kit) -> None:
        """Go on from the safe point at which this attacker was saved, in another process.

        Optional: an attacker that overrides it and calls `kit.safe_point()` in its loop survives
        a kill. It is saved whole, so that what it knows has to be in `self`: nothing in local
        variables of `attack`, no lambdas. What it holds of oracle and kit comes back as
        the live ones, generators where they stood. One without it starts afresh, and so does a
        subclass that overrides `attack` alone: override both, or neither.

        Raises:
            PlayerError: this attacker has no such method of its own.
        """
        raise PlayerError(f"{type(self).__name__} cannot go on from a save; it starts afresh")

    def __str__(self) -> str:
        return type(self).__name__

    @property
    def resumable(self) -> bool:
        """Whether it can go on from a save."""
        lineage = type(self).__mro__
        attacks = next(place for place, one in enumerate(lineage) if "attack" in vars(one))
        resumes = next(place for place, one in enumerate(lineage) if "resume" in vars(one))
        return lineage[resumes] is not Attacker and resumes <= attacks


class OracleWrapper(ABC):
    """Stands between the oracle and an attacker: changes what is asked and what is answered.

    Any attacker can be played behind wrappers. A wrapper is saved with its attacker.
    """

    requires: frozenset[str] = frozenset()
    """What the threat model must grant, out of `NEEDS`."""

    provides: frozenset[str] = frozenset()
    """What an attacker behind it gets without the threat model granting it, out of `NEEDS`."""

    @abstractmethod
    def wrap(self, oracle: Oracle, kit: Kit) -> Oracle:
        """Return the oracle that the attacker asks, in front of `oracle`.

        Called once, before the attack, and may ask `oracle` itself. All chance is drawn from
        `kit.generator`. `remaining` of the returned oracle must tell what it can still answer.
        """


@dataclass(frozen=True, slots=True)
class Note:
    """Something a defender noticed, for the log.

    Attributes:
        kind: in one word ("alarm").
        message: one line.
        answered: images answered to everybody when it was noticed.
        data: numbers and texts that go with it.
    """

    kind: str
    message: str
    answered: int
    data: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DefenderKit:
    """What the match lends a defender: all that the owner of a model has.

    Attributes:
        deployed_defences: names of the deployed defences, in the order in which a countermeasure
            counts them.
        generator: its random stream, on the device. Nothing else may draw its chance.
        victim: the undefended victim.
        train: the images that the victim was trained on, with their labels.
        validation: more images of the owner's; no user asks one of either set, no clone is scored
            on one.
    """

    deployed_defences: tuple[str, ...]
    generator: torch.Generator
    victim: OwnVictim
    train: ImageSet
    validation: ImageSet

    @property
    def device(self) -> torch.device:
        """Where images and networks live."""
        return self.generator.device

    @property
    def shared(self) -> dict[str, object]:
        """What copies of the defender share with it, by name; it is only read."""
        return {name: getattr(self, name) for name in ("victim", "train", "validation")}

    def copy_of(self, defender: T) -> T:
        """Copy a defender with all that it holds, but what is `shared`."""
        # deepcopy takes what the memo holds for an object instead of copying the object
        return copy.deepcopy(defender, {id(one): one for one in self.shared.values()})


class Defender(ABC):
    """A player who decides how each request is answered.

    It chooses among the deployed defences, in the scenario's order. It sees requests of clients,
    never who is an attacker.
    """

    learns_between_episodes: ClassVar[bool] = False
    """Whether the state of one episode is carried to the next, over the scenario's seeds."""

    def begin(self, kit: DefenderKit) -> None:  # noqa: B027 - a hook most defenders leave alone
        """Set up before the first request, with what an owner has."""

    @abstractmethod
    def act(self, view: View) -> Countermeasure:
        """Decide how a request is answered."""

    def learn(self, served: Served) -> None:  # noqa: B027 - a hook most defenders leave alone
        """Look at what was answered; called after every request."""

    def notes(self) -> Sequence[Note]:
        """Tell what was noticed; read once, when the episode is over. Keep it to a few hundred."""
        return ()

    def load_carried_state(self, state: Mapping[str, object]) -> None:  # noqa: B027 - a hook most defenders leave alone
        """Load `carried_state` of the episode before, after `begin`; {} in the first."""

    def carried_state(self) -> Mapping[str, object]:
        """Return, in JSON values, what the next episode should know; read when this one is over."""
        return {}


def granted(attacker: Attacker, *, labels: str, latency_visible: bool, pool: bool) -> None:
    """Check that the threat model grants what the attacker needs.

    Raises:
        PlayerError: it needs something that is not granted, or something unheard of.
    """
    require_granted(
        str(attacker),
        attacker.requires,
        labels=labels,
        latency_visible=latency_visible,
        pool=pool,
    )


def require_granted(
    name: str, requires: frozenset[str], *, labels: str, latency_visible: bool, pool: bool
) -> None:
    """Check likewise what an attacker of this name says that it needs; see `granted`."""
    unknown = requires - NEEDS
    if unknown:
        raise PlayerError(f"{name}.requires names {sorted(unknown)}; known: {sorted(NEEDS)}")
    grants = {"soft-labels": labels == "soft", "latency": latency_visible, "pool": pool}
    missing = sorted(need for need in requires if not grants[need])
    if missing:
        raise PlayerError(
            f"{name} needs {', '.join(missing)}, which this scenario does not grant; "
            f"see its [threat] section"
        )
