"""The victim: a frozen network behind an exit rule that really stops computing.

This object stays on the simulator's side of the table; players meet an oracle.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from envs.chunks import chunks_for
from envs.execution import Chunk, TimedAnswer, run_compacted, run_each, run_masked
from envs.exits import ExitRule, FinalOnly
from envs.nets.multi_exit import MultiExit
from envs.profile import ExitProfile, profile
from envs.serving import ServingCopy

Execution = Literal["compacted", "masked"]


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
        execution: "compacted" stops computing who left, "masked" runs everything and selects.
            Answers are the same; "masked" never waits for an accelerator.
        chunk: images run together. If absent, as many in each segment as a processor's cache
            holds, and all of a request on an accelerator.

    Raises:
        ValueError: the rule does not fit the network's exits.
    """

    def __init__(
        self,
        network: MultiExit,
        *,
        rule: ExitRule | None = None,
        execution: Execution = "compacted",
        chunk: int | None = None,
    ) -> None:
        if execution not in ("compacted", "masked"):
            raise ValueError(f"expected execution 'compacted' or 'masked', got {execution!r}")
        self.network = network.requires_grad_(False).eval()
        self.rule = rule if rule is not None else FinalOnly()
        self.rule.check(network.num_exits)
        self.execution, self.chunk = execution, chunk
        self._profile: ExitProfile | None = None
        self._serving = ServingCopy(network)
        self._chunks: tuple[int, ...] | None = None

    @property
    def num_exits(self) -> int:
        """Exits, the original classifier included: N."""
        return self.network.num_exits

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
        return next(self.network.parameters()).device

    @property
    def profile(self) -> ExitProfile:
        """What leaving at each exit costs, counted once."""
        if self._profile is None:
            self._profile = profile(self.network)
        return self._profile

    def answer(
        self, images: Tensor, *, generator: torch.Generator, foreign: bool = False
    ) -> VictimAnswer:
        """Answer images along the exit rule.

        Args:
            images: (n, c, h, w) float32 in [0, 1] on the victim's device.
            generator: the stream of a random rule, on the same device.
            foreign: the simulator's hidden flag "out of distribution", read by controls alone.
        """
        run = run_masked if self.execution == "masked" else run_compacted
        answer = run(
            self._serving.current(),
            images,
            self.rule,
            generator=generator,
            foreign=foreign,
            chunk=self._chunk_on(images.device),
            original=self.network,
        )
        return VictimAnswer(to_posteriors(answer.logits), answer.exits)

    def answer_each(
        self, images: Tensor, *, generator: torch.Generator, foreign: bool = False
    ) -> tuple[VictimAnswer, Tensor]:
        """Answer images one by one; also the (n,) float64 seconds of wall time each took."""
        timed: TimedAnswer = run_each(
            self._serving.current(),
            images,
            self.rule,
            generator=generator,
            foreign=foreign,
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

    def _chunk_on(self, device: torch.device) -> Chunk:
        """Say how many images run together; the measurements behind it are in `envs.chunks`."""
        if self.chunk is not None or device.type != "cpu":
            return self.chunk
        if self._chunks is None:
            self._chunks = chunks_for(self.network)
        return self._chunks


def to_posteriors(logits: Tensor) -> Tensor:
    """Turn (n, K) logits into float32 posteriors, normalised in float64."""
    return logits.double().softmax(1).float()
