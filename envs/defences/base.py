"""What a defence is: a mechanism with a knob, on the way of every query.

A defence hardens the victim once, before the game, and then takes part in each query. It
overrides hooks; the public `answer` is final, so that every query takes the same way and every
answer is checked.
"""

import math
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor

from envs.defences.harden_kit import HardenKit
from envs.defences.needs import Need
from envs.errors import DefenceError, PlayerError, ScenarioError
from envs.types import Labels
from envs.victim.victim import Victim, VictimAnswer

SIMPLEX_TOLERANCE = 1e-4
"""Float32 rows of 1,000 classes sum to 1 within this."""


class Clock(Protocol):
    """Runs the victim and says how long each answer took.

    Attributes:
        served: images served so far; all that a clock remembers.
    """

    served: int

    def serve(
        self, victim: Victim, images: Tensor, *, generator: torch.Generator, ood: bool
    ) -> tuple[VictimAnswer, Tensor | None]:
        """Answer the images; seconds are (n,) float64, or None where nobody asks for them."""
        ...

    def deliver(self, seconds: Tensor, images: Tensor) -> Tensor:
        """Add the network's time to the request served last; (n,) float64."""
        ...


class Serving(NamedTuple):
    """What a defence knows while it answers one request.

    Attributes:
        images: (n, c, h, w) as they were asked.
        victim: the hardened victim.
        exits: (n,) int64, the exit each answer came from.
        labels: what the attacker will see of the answer.
        strength: the knob, 0 (off) to 1 (as configured).
        generator: the defence's random stream, on the images' device.
        account: who asks: a number drawn for the episode, all that a server knows of a client.
    """

    images: Tensor
    victim: Victim
    exits: Tensor
    labels: Labels
    strength: float
    generator: torch.Generator
    account: int = 0


class Answer(NamedTuple):
    """A defended answer to one request, as the simulator sees it.

    Attributes:
        posteriors: (n, K) float32 on the simplex.
        exits: (n,) int64; hidden from players.
        latency: (n,) float64 seconds, or None.
        fault: True where the answer breaks its contract. As a 0-d bool tensor it need not be
            waited for, and is read at checkpoints.
    """

    posteriors: Tensor
    exits: Tensor
    latency: Tensor | None
    fault: Tensor | bool


class Defence:
    """The undefended victim, and the base of every defence.

    Hard labels are taken last of all, as the argmax of what `answer` returns; of a tie the lowest
    class. A defence that does something else for them is told so by `Serving.labels`.

    Attributes:
        epsilon: the promised L1 distance of a served posterior from the victim's own, 0 to 2.
    """

    epsilon: float = 0.0
    overhead_macs: int = 0
    """Multiply-accumulates a query costs beyond the victim's own, set by `harden`."""

    interpolates: bool = True
    """Whether strengths between 0 and 1 mean anything; False where a defence is on or off."""

    answers_only: bool = False
    """Whether `harden`, where it does anything, asks the victim for its number of classes alone, so
    that a victim which runs elsewhere can be defended in front of it."""

    simulated: bool = False
    """True where the defence reads what no real server knows (a control for tables)."""

    @property
    def trained_on(self) -> tuple[str, ...]:
        """Sources of images, beyond the victim's own, that hardening trains on.

        Names of `envs.training.ood` or of data sets. Tables state them: a defence that has seen
        an attacker's kind of queries cannot be compared with one that has not.
        """
        return ()

    @property
    def needs(self) -> frozenset[Need]:
        """What it needs of the victim beyond its answers; see `require_needs`."""
        return frozenset()

    def check_images(self, image_shape: tuple[int, int, int]) -> None:
        """Refuse, before anything is trained, images that this defence cannot be built for.

        Raises:
            ScenarioError: says what does not fit.
        """

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Prepare before the game; returns the victim that will serve."""
        return victim

    def perturb_images(
        self, images: Tensor, *, strength: float, generator: torch.Generator
    ) -> Tensor:
        """Return the images the victim will really see, same shape and device."""
        return images

    def perturb_posteriors(self, posteriors: Tensor, serving: Serving) -> Tensor:
        """Return what is served instead of the (n, K) float32 posteriors."""
        return posteriors

    def perturb_latency(self, latency: Tensor, serving: Serving) -> Tensor:
        """Return the seconds after which each answer is really sent, (n,) float64."""
        return latency

    @final
    def answer(
        self,
        victim: Victim,
        images: Tensor,
        *,
        clock: Clock,
        generator: torch.Generator,
        strength: float = 1.0,
        labels: Labels = "soft",
        ood: bool = False,
        account: int = 0,
    ) -> Answer:
        """Answer one request along the one defended way.

        Args:
            victim: what `harden` returned.
            images: (n, c, h, w) float32 in [0, 1] on the victim's device.
            clock: runs the victim and measures.
            generator: the defence's stream.
            strength: the knob of the countermeasure in force.
            labels: what the attacker will see.
            ood: the simulator's hidden flag "out of distribution", read by controls alone.
            account: who asks, for defences that remember what each account asked.
        """
        seen = images
        own = type(self)
        if own.perturb_images is not Defence.perturb_images:
            # hooks get copies: what they write in place must not reach the client's images, nor
            # the clean answer that theirs is measured against
            seen = self.perturb_images(images.clone(), strength=strength, generator=generator)
            seen = self._plain("perturb_images", seen, images)
        served, latency = clock.serve(victim, seen, generator=generator, ood=ood)
        posteriors = served.posteriors
        if own.perturb_posteriors is not Defence.perturb_posteriors:
            serving = Serving(images, victim, served.exits, labels, strength, generator, account)
            posteriors = self.perturb_posteriors(served.posteriors.clone(), serving)
            posteriors = self._plain("perturb_posteriors", posteriors, served.posteriors)
            fault = self._fault(posteriors, served.posteriors)
        else:
            fault = _not_finite(posteriors)
        if latency is not None:
            if own.perturb_latency is not Defence.perturb_latency:
                exits = served.exits
                serving = Serving(images, victim, exits, labels, strength, generator, account)
                sent = self.perturb_latency(latency.clone(), serving)
                latency = self._plain("perturb_latency", sent, latency)
                fault = fault | ~(latency.amin() >= 0) | ~latency.amax().isfinite()
            latency = clock.deliver(latency, images)
        return Answer(posteriors, served.exits, latency, fault)

    def _plain(self, hook: str, value: object, like: Tensor) -> Tensor:
        """Check what a hook returned, and strip it to a plain tensor without autograd state.

        Raises:
            DefenceError: it is no tensor of the shape, dtype and device that the hook was given.
        """
        if isinstance(value, Tensor):
            value = value.detach().as_subclass(Tensor)
            if (value.shape, value.dtype, value.device) == (like.shape, like.dtype, like.device):
                return value
            got = f"{value.dtype} {tuple(value.shape)} on {value.device}"
        else:
            got = type(value).__name__
        raise DefenceError(
            f"{type(self).__name__}.{hook} returned {got}; expected {like.dtype} "
            f"{tuple(like.shape)} on {like.device}, as it was given"
        )

    def _fault(self, posteriors: Tensor, clean: Tensor) -> Tensor | bool:
        """Tell, without waiting for the device, whether a row leaves the simplex or the budget."""
        # float32 adds up 1,000 classes within 1e-5; NaN is kept by every step and is no "<="
        off = (posteriors.sum(1) - 1).abs_().amax()
        distance = (posteriors - clean).abs_().sum(1).amax()
        on_simplex = (posteriors.amin() >= 0) & (off <= SIMPLEX_TOLERANCE)
        return ~(on_simplex & (distance <= self.epsilon + SIMPLEX_TOLERANCE))


def _not_finite(posteriors: Tensor) -> Tensor | bool:
    """Tell whether a value is NaN or infinite, without waiting for an accelerator."""
    if not posteriors.is_cpu:
        return ~posteriors.sum().isfinite()
    # by the operation that checked the query's values, whose code the processor still holds: a sum
    # takes 2 us more of a request of one image
    low, high = posteriors.aminmax()
    return not (float(low) > -math.inf and float(high) < math.inf)


_UNDEFENDED = Defence()


def require_answers_only(defence: Defence, name: str) -> None:
    """Check that a defence changes nothing but queries and answers on their way.

    Args:
        defence: of a victim that runs elsewhere.
        name: what the message calls the defence.

    Raises:
        ScenarioError: it hardens the victim, or needs more of it than answers.
    """
    if type(defence).harden is not Defence.harden and not defence.answers_only:
        raise ScenarioError(
            f"'{name}' needs the victim itself, and one elsewhere only answers; defend it where it "
            f"runs, and play 'undefended' here"
        )


class DeployedDefence(NamedTuple):
    """A defence in place: the mechanism and the victim it hardened.

    Attributes:
        name: for messages and the log.
        defence: the mechanism.
        victim: what `harden` returned.
        bare: the victim before hardening, which answers at strength 0; `victim` if absent.
    """

    name: str
    defence: Defence
    victim: Victim
    bare: Victim | None = None

    def answer(
        self,
        images: Tensor,
        *,
        clock: Clock,
        generator: torch.Generator,
        strength: float = 1.0,
        labels: Labels = "soft",
        ood: bool = False,
        account: int = 0,
    ) -> Answer:
        """Answer one request at a strength; at 0 the unhardened victim answers, undefended.

        Exits of the unhardened victim are those of the whole network: the last of `victim`.

        Raises:
            PlayerError: a strength between 0 and 1 of a defence that is on or off.
            DefenceError: a hook returned something else than it was given.
        """
        if strength != 0:
            if strength != 1 and not self.defence.interpolates:
                raise PlayerError(
                    f"{self.name} is on or off; expected strength 0 or 1, got {strength}"
                )
            return self.defence.answer(
                self.victim,
                images,
                clock=clock,
                generator=generator,
                strength=strength,
                labels=labels,
                ood=ood,
                account=account,
            )
        answer = _UNDEFENDED.answer(
            self.bare or self.victim,
            images,
            clock=clock,
            generator=generator,
            strength=0.0,
            labels=labels,
            ood=ood,
        )
        if self.bare is None:
            return answer
        return answer._replace(exits=torch.full_like(answer.exits, self.victim.num_exits - 1))
