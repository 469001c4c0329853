"""Delays answers so that response time does not reveal the exit; the answer stays as it is."""

import math
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from envs.defences.base import Defence, Serving
from envs.defences.harden_kit import HardenKit
from envs.exits.rules import Thresholds
from envs.latency.padding import ConstantTime, InputSeededDelay, Padding, PadToLevels
from envs.ranges import Amount
from envs.victim.victim import Victim

Policy = Literal["constant", "next-exit", "bucketed", "seeded-delay"]

_SAMPLES, _WARM_UP = 64, 10
_HEADROOM = 4  # standard deviations of log time; of a lognormal, one answer in 30,000 is later


class Timing(Defence):
    """Delay answers so that their time tells less about the exit they left at.

    "constant" sends every answer when the whole network would have finished, "next-exit" at the
    time of the next exit, "bucketed" at the next of two times, and "seeded-delay" adds to early
    answers a delay that depends on the image, so that repeats do not average it out. Each gives
    back part of the time early exit saves the user; the compute it saves the server stays saved.

    Hard labels, and posteriors too: as they come, to the bit; only time changes.

    The times are those of the server that serves, headroom for its noise included: from its model
    where time is modelled, else measured before the game on this machine.

    Args:
        policy: how answers are delayed.
        seconds: instead of the time of the whole network.
        levels: seconds, instead of the times that "next-exit" (every exit) and "bucketed" (the
            middle exit and the last) pad to.
        scale: seconds of "seeded-delay", whose delay is |N(0, scale)|; half the time of the whole
            network if not given.
        perceptual: seed by an 8x8 thumbnail in 16 greys instead of exact pixels.

    Raises:
        ValueError: a value outside its range, or one that the policy does not use.

    Source:
        "seeded-delay" is TimeGuard, in Li et al. 2022, arXiv:2208.11180.
    """

    def __init__(
        self,
        *,
        policy: Policy = "constant",
        seconds: Amount | None = None,
        levels: Sequence[Amount] | None = None,
        scale: Amount | None = None,
        perceptual: bool = True,
    ) -> None:
        if policy not in get_args(Policy):
            raise ValueError(f"expected a policy of {', '.join(get_args(Policy))}, got {policy!r}")
        pads_to_levels = policy in ("next-exit", "bucketed")
        if levels is not None and not pads_to_levels:
            raise ValueError(f"levels belong to 'next-exit' and 'bucketed', not to '{policy}'")
        if seconds is not None and pads_to_levels:
            raise ValueError(f"'{policy}' takes levels, not seconds")
        if scale is not None and policy != "seeded-delay":
            raise ValueError(f"scale belongs to 'seeded-delay', not to '{policy}'")
        if min(seconds or 0.0, scale or 0.0, *(levels or (0.0,))) < 0:
            raise ValueError("expected times of at least 0 seconds")
        self.policy, self.seconds, self.scale = policy, seconds, scale
        self.levels = None if levels is None else tuple(levels)
        self.perceptual = perceptual
        self._padding: Padding | None = None

    def harden(self, victim: Victim, kit: HardenKit) -> Victim:
        """Learn how long the exits take."""
        self._padding = self._build(victim, kit)
        return victim

    def perturb_latency(self, latency: Tensor, serving: Serving) -> Tensor:
        """Return when answers are sent; the strength scales the delay."""
        if serving.strength == 0 or self._padding is None:
            return latency
        sent = self._padding.apply(latency, serving.exits, serving.images)
        return sent if serving.strength == 1 else latency + serving.strength * (sent - latency)

    def _build(self, victim: Victim, kit: HardenKit) -> Padding:
        if self.levels is not None:
            return PadToLevels(self.levels)
        if self.policy == "constant" and self.seconds is not None:
            return ConstantTime(self.seconds)
        exits = exit_seconds(victim, kit)
        if self.policy == "next-exit":
            return PadToLevels(exits)
        if self.policy == "bucketed":
            return PadToLevels((exits[(len(exits) - 1) // 2], exits[-1]))
        whole = exits[-1] if self.seconds is None else self.seconds
        if self.policy == "constant":
            return ConstantTime(whole)
        return InputSeededDelay(
            whole / 2 if self.scale is None else self.scale,
            whole,
            last_exit=victim.num_exits - 1,
            key=kit.streams.integer("timing/key"),
            perceptual=self.perceptual,
        )


def exit_seconds(victim: Victim, kit: HardenKit) -> tuple[float, ...]:
    """Return the seconds of each exit, headroom included: from the server's model, or measured."""
    if kit.expected is not None:
        return kit.expected(victim.profile)
    return measured_seconds(victim, kit)


def measured_seconds(victim: Victim, kit: HardenKit) -> tuple[float, ...]:
    """Measure each exit on images of the victim's own, one by one, four deviations above the mean.

    Logarithms are averaged, because times are skewed to the right.
    """
    images = kit.data.train.to(victim.device).images(slice(0, _SAMPLES))
    generator = kit.streams.torch("timing/measuring", victim.device)
    early = victim.num_exits - 1
    found = []
    for index in range(victim.num_exits):
        forced = victim.with_rule(Thresholds([1.0] * index + [0.0] * (early - index)))
        forced.answer_each(images[:_WARM_UP], generator=generator)
        _, seconds = forced.answer_each(images, generator=generator)
        logs = seconds.log()
        spread = logs.std().item() if len(logs) > 1 else 0.0
        found.append(math.exp(logs.mean().item() + _HEADROOM * spread))
    # an exit cannot take longer than the one after it, whatever noise says
    return tuple(torch.tensor(found, dtype=torch.float64).cummax(0).values.tolist())
