"""What a defended answer costs, in forward passes of the bare victim.

Every round times the bare forward pass, the undefended answer and each defence one after the other.
What a defence adds is its time less that of the undefended answer, in forward passes; the median
over rounds is reported. The time is that of this process on its processors, because others use the
machine too. Networks are untrained: time depends on their shape alone.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from arena.bench.timing import Line, Run, clock, interleave, spread
from envs.data.images import PARTS, ImageSet, Splits
from envs.defences.base import Defence
from envs.defences.gradient_redirection import GradientRedirection
from envs.defences.harden_kit import HardenKit
from envs.defences.label_preserving import PosteriorDefence
from envs.defences.meco import MeCo
from envs.defences.modelguard import ModelGuardS, ModelGuardW
from envs.defences.prediction_poisoning import PredictionPoisoning
from envs.defences.randp import RandP
from envs.defences.reverse_sigmoid import ReverseSigmoid
from envs.defences.truncation import Truncation
from envs.game.clocks import Untimed
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.victim.victim import Victim

GROUP = "defences"
BARE, UNDEFENDED = "bare", "undefended"


class Case(NamedTuple):
    """A defence, and what it may add to an answer, in forward passes; None: nothing is asked."""

    make: Callable[[], Defence]
    target: float | None


def _kept(kind: type[PosteriorDefence], **params: Any) -> Callable[[], Defence]:  # Any: theirs
    """Make a defence that keeps labels: the dearer case."""
    return partial(kind, preserve_top1="on", **params)


CASES: Mapping[str, Case] = {
    "randp": Case(_kept(RandP, epsilon=0.5), 0.1),
    "randp-hash": Case(_kept(RandP, epsilon=0.5, randomness="hash"), None),
    "truncation": Case(_kept(Truncation, decimals=1), 0.1),
    "p-poison-small": Case(_kept(PredictionPoisoning, surrogate="small"), 0.1),
    "p-poison": Case(_kept(PredictionPoisoning), None),  # a second victim answers too
    "grad": Case(_kept(GradientRedirection, surrogate="untrained"), 3.0),
    "meco": Case(partial(MeCo, scale=0.1, retrain="off"), 2.0),
    "reverse-sigmoid": Case(_kept(ReverseSigmoid), None),
    "modelguard-w": Case(ModelGuardW, None),
    "modelguard-s": Case(ModelGuardS, None),
}
"""Retraining and the surrogate's training change no shape, and are left out."""

VICTIMS: Mapping[str, tuple[str, tuple[int, int, int]]] = {
    "digits": ("resnet10-half", (1, 8, 8)),
    "resnet18-8x": ("resnet18-8x", (3, 32, 32)),
}
"""Network and image shape by name."""


def measure(*, small: int = 15, large: int = 3) -> list[Line]:
    """Measure what each defence adds to an answer to 256 images, in forward passes of the victim.

    Args:
        small: rounds with the victim of digits, whose pass takes a few milliseconds.
        large: rounds with ResNet18-8x at 32x32, and the defences that have a target; 0 for none.
    """
    lines = costs("digits", rounds=small)
    if large:
        with_target = [name for name, case in CASES.items() if case.target is not None]
        lines += costs("resnet18-8x", rounds=large, cases=with_target)
    return lines


def costs(victim: str, *, rounds: int, cases: Sequence[str] = tuple(CASES), batch: int = 256
          ) -> list[Line]:  # fmt: skip
    """Measure what defences add to the answers of one victim.

    Args:
        victim: a name of `VICTIMS`.
        rounds: how often everything is timed, after one round that is not counted.
        cases: names of `CASES`.
        batch: images of a request.

    Returns:
        A line for each defence. Its note tells the same cost in counted multiply-accumulates.
    """
    bare = _victim(victim)
    images = torch.rand((batch, *bare.image_shape), generator=Streams(0).torch("images"))
    generator = torch.Generator().manual_seed(0)
    runs: dict[str, Run] = {
        BARE: partial(bare.posteriors, images),
        UNDEFENDED: _answer(Defence(), bare, images, generator),
    }
    macs = {}
    for name in cases:
        defence = CASES[name].make()
        hardened = defence.harden(_victim(victim), _kit(bare))
        macs[name] = (hardened.profile.macs[-1] + defence.overhead_macs) / bare.profile.macs[-1] - 1
        runs[name] = _answer(defence, hardened, images, generator)
    with torch.no_grad(), clock("cpu"):
        seconds = interleave(runs, rounds=rounds)
    lines = []
    for name in cases:
        triples = zip(seconds[name], seconds[UNDEFENDED], seconds[BARE], strict=True)
        added = spread([(defended - plain) / passed for defended, plain, passed in triples])
        lines.append(
            Line(GROUP, f"{name}, {victim}", added.median, "forward passes added", added.low,
                 added.high, target=CASES[name].target, at_least=False,
                 note=f"{macs[name]:.3f} by MACs; processor time")
        )  # fmt: skip
    return lines


def _answer(defence: Defence, victim: Victim, images: Tensor, generator: torch.Generator) -> Run:
    return partial(defence.answer, victim, images, clock=Untimed(), generator=generator)


def _victim(name: str) -> Victim:
    network, shape = VICTIMS[name]
    backbone = registry.build(
        network,
        num_classes=10,
        image_shape=shape,
        generator=Streams(0).torch("weights"),
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
    )
    return Victim(MultiExit(backbone, ()))


def _kit(victim: Victim) -> HardenKit:
    """Lend a defender a few random images: what is made of them has the shape that matters."""
    pixels = torch.randint(
        0, 256, (64, *victim.image_shape), dtype=torch.uint8, generator=Streams(0).torch("data")
    )
    labels = torch.arange(64) % victim.num_classes
    classes = tuple(map(str, range(victim.num_classes)))
    images = ImageSet(pixels, labels, victim.num_classes, "random", classes)
    plan = victim.network.backbone.plan
    parts = dict.fromkeys(PARTS, images)
    data = Splits(**parts, mean=plan.mean, std=plan.std, name="random", fingerprint="0" * 16)
    return HardenKit(data, Streams(0), torch.device("cpu"))
