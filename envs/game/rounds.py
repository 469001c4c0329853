"""The values of a round, and the protocols of those who take part in it or observe it."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from torch import Tensor, nn

from envs.errors import NotGranted, PlayerError

Refusal = Literal["request", "account"]


class OwnVictim(Protocol):
    """The undefended victim, as its owner may look at it; nothing of it is charged to anybody."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers whose output may be asked for, in the order in which they run."""
        ...

    def features(self, images: Tensor, layer: str | None = None) -> Tensor:
        """Compute what a layer makes of images.

        Args:
            images: (n, c, h, w) float32 in [0, 1], n at least 1.
            layer: out of `layers`; the input of the classifier if absent.

        Returns:
            (n, ...) float, as the layer leaves it.

        Raises:
            UnknownName: there is no such layer.
            NotGranted: the victim runs elsewhere, or its layers cannot be looked at.
        """
        ...

    def network(self) -> nn.Module:
        """Return a copy of its layers up to the classifier, which may be trained further.

        It maps (n, c, h, w) in [0, 1] to the (n, width) features. NotGranted as `features`.
        """
        ...


class View:
    """What a server sees of one request before it answers.

    Args:
        images: as they were asked.
        client: the account that asks: a number drawn for this episode.
        answered: images answered before this request, to all clients.
        time: seconds, from 0, on the server's clock when the request came; see
            `envs.game.standings`.
        victim: the owner's own; None where there is none to look at.
    """

    __slots__ = ("_copy", "_features", "_images", "_time", "_victim", "answered", "client")

    def __init__(
        self,
        images: Tensor,
        client: int,
        answered: int,
        *,
        time: float | Tensor = 0.0,
        victim: OwnVictim | None = None,
    ) -> None:
        self._images = images
        self._copy: Tensor | None = None
        self._features: dict[str | None, Tensor] = {}
        self._time, self._victim = time, victim
        self.client, self.answered = client, answered

    @property
    def account(self) -> int:
        """The account that asks, which is all that a server knows of a client."""
        return self.client

    @property
    def time(self) -> float:
        """Seconds on the server's clock, from 0; on an accelerator it waits for the device."""
        return float(self._time)

    def features(self, layer: str | None = None) -> Tensor:
        """Return what a layer of the undefended victim makes of the images.

        It is computed at the first look, and kept for the defender's further looks.

        Args:
            layer: see `OwnVictim.features`, which tells the shape and what is raised too.
        """
        if self._victim is None:
            raise NotGranted("there is no victim whose layers could be looked at")
        if layer not in self._features:
            self._features[layer] = self._victim.features(self._images, layer)
        return self._features[layer]

    @property
    def images(self) -> Tensor:
        """The (n, c, h, w) float32 images on the device: a copy, made at the first look."""
        if self._copy is None:
            self._copy = self._images.clone()
        return self._copy


@dataclass(frozen=True, slots=True)
class Countermeasure:
    """How the defender answers a request, and what becomes of the account that asks.

    Args:
        defence: index of the defence to use, among those the defender brought.
        strength: its knob, 0 (off) to 1 (as configured).
        refuse: give no answer to this request.
        cut_off: refuse this request and every further one of the account.
        delay: seconds for which the answer is held back.
        rate: images a second that the account gets from this request on, at most: answers that
            would come sooner are held back. `math.inf` lifts it; None leaves it as it is.
    """

    defence: int = 0
    strength: float = 1.0
    refuse: bool = False
    cut_off: bool = False
    delay: float = 0.0
    rate: float | None = None

    def __post_init__(self) -> None:
        """Raise PlayerError where a value is out of range."""
        if type(self.defence) is not int or self.defence < 0:
            raise PlayerError(f"expected a defence counted from 0, got {self.defence!r}")
        if type(self.strength) not in (int, float) or not 0 <= self.strength <= 1:
            raise PlayerError(f"expected a strength from 0 to 1, got {self.strength!r}")
        if type(self.refuse) is not bool or type(self.cut_off) is not bool:
            raise PlayerError(
                f"expected refuse and cut_off as True or False, got {self.refuse!r} and "
                f"{self.cut_off!r}"
            )
        if type(self.delay) not in (int, float) or not 0 <= self.delay < math.inf:
            raise PlayerError(f"expected a delay in seconds of at least 0, got {self.delay!r}")
        if self.rate is not None and (type(self.rate) not in (int, float) or not self.rate > 0):
            raise PlayerError(f"expected a rate in images a second above 0, got {self.rate!r}")

    @property
    def answers(self) -> bool:
        """Whether the request is answered."""
        return not (self.refuse or self.cut_off)


class Served:
    """What a server remembers of one request after it answered.

    Attributes:
        view: the request.
        countermeasure: how it was answered.
    """

    __slots__ = ("_exits", "_posteriors", "countermeasure", "view")

    def __init__(
        self, view: View, countermeasure: Countermeasure, posteriors: Tensor, exits: Tensor
    ) -> None:
        self.view, self.countermeasure = view, countermeasure
        self._posteriors, self._exits = posteriors, exits

    @property
    def posteriors(self) -> Tensor:
        """The (n, K) float32 answers: a copy at each look."""
        return self._posteriors.clone()

    @property
    def exits(self) -> Tensor:
        """The (n,) int64 exits that they left from: a copy at each look."""
        return self._exits.clone()


class DefenderProtocol(Protocol):
    """Decides for each request. It is not told which requests are the attacker's.

    A request that it refuses is not shown to `learn`, and one of an account that it cut off not to
    `act` either.
    """

    def act(self, view: View) -> Countermeasure:
        """Decide how a request is answered."""
        ...

    def learn(self, served: Served) -> None:
        """Look at what was answered."""
        ...


class AnsweredRequest(NamedTuple):
    """One request and its answer, with what only the simulator knows.

    Attributes:
        images: (n, c, h, w) float32 on the device.
        client: who asked, by the number that the server saw.
        countermeasure: how the defender answered.
        posteriors: (n, K) float32, as the defence answered.
        exits: (n,) int64, the exit of each answer.
        latency: (n,) float64 seconds; None in a game without a clock.
        ood: whether the images are out of distribution.
        labels: (n,) int64 of a benign request, -1 where unknown; None of the attacker's.
        refused: "request" where it was refused, "account" where its account is cut off; then the
            posteriors are zeros, and there are no exits and no latency. None where it was answered.
    """

    images: Tensor
    client: int
    countermeasure: Countermeasure
    posteriors: Tensor
    exits: Tensor
    latency: Tensor | None = None
    ood: bool = False
    labels: Tensor | None = None
    refused: Refusal | None = None


class Round(NamedTuple):
    """One finished round: the attacker's request, and benign users' beside it.

    The tensors are the game's own, not copies: an observer only reads them, and copies what it
    keeps.

    Attributes:
        number: of the round, from 0.
        attack: the attacker's request, which is answered last.
        benign: benign users' requests, in the order in which they were answered.
        given: (n, K) float32, what the attacker is given: posteriors, or one-hot rows where only
            labels are served.
        account: which of the attacker's accounts asked. A query that is dealt to several is a
            round for each of them.
        is_charged: whether the attacker's request was charged; a refused one may not be.
    """

    number: int
    attack: AnsweredRequest
    benign: tuple[AnsweredRequest, ...]
    given: Tensor
    account: int = 0
    is_charged: bool = True


class Ledger(Protocol):
    """Counts what a victim elsewhere charges: answers, and requests that were lost on the way.

    Attributes:
        charged: images charged so far.
    """

    charged: int


class Observer(Protocol):
    """Sees every finished round before the attacker gets its answer, and changes nothing."""

    def on_round(self, round: Round) -> None:
        """Look at a finished round."""
        ...
