"""The victim: a frozen network behind an exit rule that really stops computing.

This object stays on the simulator's side of the table; players meet an oracle.
"""

from functools import partial
from itertools import chain
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from envs.exits.rules import ExitRule, FinalOnly
from envs.nets.exit_cost import ExitProfile, profile
from envs.nets.multi_exit import MultiExit
from envs.victim.chunk_size import chunks_for
from envs.victim.execution import (
    Chunk,
    ExitAnswer,
    TimedAnswer,
    run_compacted,
    run_each,
    run_masked,
)
from envs.victim.execution_choice import Trial
from envs.victim.folded import ServingCopy

Execution = Literal["auto", "compacted", "masked"]


class VictimAnswer(NamedTuple):
    """What a victim answered, before any perturbation.

    Attributes:
        posteriors: (n, K) float32, rows sum to 1.
        exits: (n,) int64, 0 .. N-1, the exit each answer left from; hidden from players.
    """

    posteriors: Tensor
    exits: Tensor


class Victim:
    """A frozen classifier with exits.

    Args:
        network: with or without exit heads; put into evaluation mode and frozen here.
        rule: who leaves where; nobody leaves early by default.
        execution: "compacted" drops images at the exit where they leave, "masked" runs everything
            and selects. Exits are the same; "masked" waits for an accelerator once a request at
            most. "auto" compacts on a CPU, where it was never measured slower; on an accelerator
            it times both on the first requests and keeps the faster one.
        chunk: images run together. If absent, as many in each segment as a processor's cache
            holds, and all of a request on an accelerator.

    Attributes:
        is_remote: whether it runs elsewhere, so that nothing is known of it but its answers.

    Raises:
        ValueError: the rule does not fit the network's exits.
    """

    is_remote: bool = False

    def __init__(
        self,
        network: MultiExit,
        *,
        rule: ExitRule | None = None,
        execution: Execution = "auto",
        chunk: int | None = None,
    ) -> None:
        if execution not in ("auto", "compacted", "masked"):
            raise ValueError(
                f"expected execution 'auto', 'compacted' or 'masked', got {execution!r}"
            )
        self.network = network.requires_grad_(False).eval()
        self.rule = rule if rule is not None else FinalOnly()
        self.rule.check(network.num_exits)
        self.execution, self.chunk = execution, chunk
        self._profile: ExitProfile | None = None
        self._serving = ServingCopy(network)
        self._chunks: tuple[int, ...] | None = None
        self._trial: Trial | None = None

    @property
    def num_exits(self) -> int:
        """Exits, the original classifier included: N."""
        return self.network.num_exits

    @property
    def exit_names(self) -> tuple[str, ...]:
        """A name for each exit, the first exit first."""
        return self.network.exit_names

    @property
    def num_classes(self) -> int:
        """Classes, K."""
        return self.network.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of an image."""
        return self.network.image_shape

    @property
    def device(self) -> torch.device:
        """Where the network lives and images are expected."""
        return next(chain(self.network.parameters(), self.network.buffers())).device

    @property
    def profile(self) -> ExitProfile:
        """What leaving at each exit costs, counted once."""
        if self._profile is None:
            self._profile = profile(self.network)
        return self._profile.undivided if self.rule.needs_all_exits else self._profile

    def answer(
        self, images: Tensor, *, generator: torch.Generator, ood: bool = False
    ) -> VictimAnswer:
        """Answer images along the exit rule.

        Args:
            images: (n, c, h, w) float32 in [0, 1] on the victim's device.
            generator: the stream of a random rule, on the same device.
            ood: the simulator's hidden flag "out of distribution", read by controls alone.
        """
        network = self._serving.current()
        serve = partial(
            self._run, network, images, generator=generator, ood=ood,
            chunk=self._chunk_on(images.device),
        )  # fmt: skip
        if self._undecided(images.device):
            if self._trial is None:
                self._trial = Trial(images.device)
            ways = {name: partial(serve, name) for name in ("compacted", "masked")}
            answer = self._trial.run(images.shape[0], ways)
        else:
            answer = serve("masked" if self.execution == "masked" else "compacted")
        return VictimAnswer(to_posteriors(answer.logits), answer.exits)

    def answer_each(
        self, images: Tensor, *, generator: torch.Generator, ood: bool = False
    ) -> tuple[VictimAnswer, Tensor]:
        """Answer images one by one; also the (n,) float64 seconds of wall time each took."""
        timed: TimedAnswer = run_each(
            self._serving.current(),
            images,
            self.rule,
            generator=generator,
            ood=ood,
            original=self.network,
        )
        return VictimAnswer(to_posteriors(timed.logits), timed.exits), timed.seconds

    def posteriors(self, images: Tensor) -> Tensor:
        """Return the (n, K) float32 posteriors of the whole network: the undefended answer."""
        unused = torch.Generator(device=images.device)
        answer = run_compacted(
            self._serving.current(),
            images,
            FinalOnly(),
            generator=unused,
            chunk=self._chunk_on(images.device),
        )
        return to_posteriors(answer.logits)

    def with_rule(self, rule: ExitRule) -> "Victim":
        """Return a victim with the same network, execution and profile, and another rule."""
        other = Victim(self.network, rule=rule, execution=self.execution, chunk=self.chunk)
        other._profile, other._chunks = self._profile, self._chunks
        other._serving = self._serving
        return other

    def to(self, device: torch.device | str) -> "Victim":
        """Move the network to a device, in place as torch does; returns the victim itself."""
        self.network.to(device)
        return self

    def _run(
        self,
        network: MultiExit,
        images: Tensor,
        way: str,
        *,
        generator: torch.Generator,
        ood: bool,
        chunk: Chunk,
    ) -> ExitAnswer:
        run = run_masked if way == "masked" else run_compacted
        return run(
            network,
            images,
            self.rule,
            generator=generator,
            ood=ood,
            chunk=chunk,
            original=self.network,
        )

    def _undecided(self, device: torch.device) -> bool:
        """Tell whether it is worth trying which way of serving is faster."""
        if self.execution != "auto" or device.type == "cpu" or self.rule.needs_all_exits:
            return False
        return any(self.rule.asks(index) for index in range(self.num_exits - 1))

    def _chunk_on(self, device: torch.device) -> Chunk:
        """Say how many images run together, as measured in `envs.victim.chunk_size`."""
        if self.chunk is not None or device.type != "cpu":
            return self.chunk
        if self._chunks is None:
            self._chunks = chunks_for(self.network)
        return self._chunks


def to_posteriors(logits: Tensor) -> Tensor:
    """Turn (n, K) logits into float32 posteriors, normalised in float64."""
    return logits.double().softmax(1).float()
