"""One small game of an attacker, watched from every side."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from agents.attackers.noise import Noise
from agents.base import Attacker, Kit
from agents.defenders.static import Static
from arena.conformance.tiny_world import TinyWorld
from arena.runner.stopping import STOP
from arena.system.process_state import ProcessState
from envs.defences.base import Defence, DeployedDefence
from envs.errors import BudgetExhausted, QueryError, Refused, one_line
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.game.game_oracle import GameOracle
from envs.seeding import Streams
from envs.types import VALUE_FAULT, Labels, Response, ThreatModel, faulty_values
from envs.victim.victim import Victim

PATIENCE = 10_000
"""Reads of `remaining` without an answer after which an attacker counts as stuck."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What is played.

    Attributes:
        budget: images.
        labels: what is served.
        seed: of the attacker's stream alone; victim and clones are always the same.
        changing_exits: whether the victim draws the exit of each answer afresh.
        refused_from: images after which every request is refused, though the ledger says that
            there is more, as a server does that closes an account; None refuses none.
    """

    budget: int
    labels: Labels = "soft"
    seed: int = 0
    changing_exits: bool = False
    refused_from: int | None = None

    def __str__(self) -> str:
        exits = ", changing exits" if self.changing_exits else ""
        closed = "" if self.refused_from is None else f", refused from {self.refused_from} on"
        return f"budget {self.budget}, {self.labels} labels{exits}{closed}"


@dataclass(eq=False, slots=True)
class Play:
    """What was seen of one game.

    Attributes:
        terms: what was played.
        attacker: the player afterwards.
        charged: images the ledger charged.
        seen: images that really reached the victim's first layer.
        refusals: queries that were refused, but for those over the budget.
        fault: how the attack failed, or None if it ended as it may.
        changed: global state that was moved.
        digest: of queries, answers, clone and inference.
    """

    terms: Terms
    attacker: Attacker
    charged: int = 0
    seen: int = 0
    refusals: list[str] = field(default_factory=list)
    fault: str | None = None
    changed: tuple[str, ...] = ()
    digest: str = ""


class Stuck(BaseException):
    """The attacker reads what is left and asks nothing.

    Not an `Exception`, so that an attacker that catches those does not swallow it.
    """


class WatchedOracle(GameOracle):
    """The oracle of the game, with somebody beside it who takes notes."""

    __slots__ = ("_looks", "_open", "_refusals")

    def __init__(
        self, game: ExtractionGame, refusals: list[str], *, refused_from: int | None = None
    ) -> None:
        super().__init__(game)
        self._looks = 0
        self._refusals = refusals
        self._open = game.threat.budget if refused_from is None else refused_from

    @property
    def remaining(self) -> int:
        """Images that may still be asked."""
        self._look()
        return super().remaining

    def query(self, images: Tensor, account: int | None = None) -> Response:
        """Ask for answers."""
        self._look()
        if self.threat.budget - super().remaining + len(images) > self._open:
            raise Refused(f"this account is cut off after {self._open} answers", is_closed=True)
        try:
            # on an accelerator the game notes bad values without waiting, and tells later
            if isinstance(images, Tensor) and images.is_cuda and bool(faulty_values(images)):
                raise QueryError(VALUE_FAULT)
            response = super().query(images, account)
        except QueryError as error:
            self._refusals.append(str(error))
            raise
        self._looks = 0
        return response

    def _look(self) -> None:
        self._looks += 1
        if self._looks > PATIENCE:
            raise Stuck(f"looked {PATIENCE} times at the oracle without getting an answer")


def play(make: Callable[[], Attacker], world: TinyWorld, terms: Terms) -> Play:
    """Let a fresh attacker play one game; never raises what the attacker raises."""
    attacker = make()
    record = Play(terms, attacker)
    victim = world.victim_of_changing_exits() if terms.changing_exits else world.victim()
    victim.profile  # noqa: B018 - counted now, because counting runs a copy of the network
    seen = count_images(victim)
    game = game_of(attacker, victim, world, terms)
    kit = kit_of(world, terms)
    before = ProcessState.capture()
    try:
        attacker.attack(WatchedOracle(game, record.refusals, refused_from=terms.refused_from), kit)
    except BudgetExhausted:
        pass
    except BaseException as error:
        if STOP.caused(error):
            raise
        record.fault = one_line(error)
    game.close()
    record.changed = ProcessState.capture().changes_since(before)
    before.restore()
    record.charged, record.seen = game.used, seen()
    record.digest = digest_of(game, attacker)
    return record


class Clones:
    """Builds clones of a world, each with other weights.

    Args:
        world: whose clones.
        generator: draws the weights.
    """

    def __init__(self, world: TinyWorld, generator: torch.Generator) -> None:
        self._world, self.generator = world, generator

    def __call__(self) -> nn.Module:
        """Build one."""
        return self._world.clone(self.generator)


def warm_up(world: TinyWorld) -> None:
    """Play once on a device, because its libraries draw on first use."""
    play(Noise, world, Terms(budget=8))


def game_of(attacker: Attacker, victim: Victim, world: TinyWorld, terms: Terms) -> ExtractionGame:
    """Set up the game of a play."""
    latency = "latency" in attacker.requires
    threat = ThreatModel(
        num_classes=world.num_classes,
        image_shape=world.image_shape,
        budget=terms.budget,
        labels=terms.labels,
        latency_visible=latency,
    )
    streams = Streams(0)
    return ExtractionGame(
        threat,
        [DeployedDefence("none", Defence(), victim)],
        Static(),
        clock=make_clock("virtual" if latency else "none", streams),
        streams=streams,
    )


def kit_of(world: TinyWorld, terms: Terms) -> Kit:
    """Return what the attacker is lent."""
    return Kit(
        device=world.device,
        generator=Streams(terms.seed).torch("attacker", world.device),
        new_clone=Clones(world, Streams(0).torch("clone", world.device)),
        surrogate_pool=world.splits().validation,
    )


def count_images(victim: Victim) -> Callable[[], int]:
    """Count what reaches the victim's first layer, whichever way it came."""
    count = 0

    def hook(module: object, inputs: tuple[Any, ...]) -> None:  # Any: torch's hook signature
        nonlocal count
        count += len(inputs[0])

    victim.network.backbone.stages[0].register_forward_pre_hook(hook)
    return lambda: count


def digest_of(game: ExtractionGame, attacker: Attacker) -> str:
    """Digest queries, answers, clone and inference."""
    tally = game.tally()
    text = f"{tally.query_digest} {tally.answer_digest} {attacker.inferred!r}"
    digest = hashlib.sha256(text.encode())
    if isinstance(attacker.clone, nn.Module):
        for name, weights in attacker.clone.state_dict().items():
            digest.update(name.encode())
            digest.update(torch.as_tensor(weights).detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
