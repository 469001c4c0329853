"""What a defended answer costs, in forward passes of the bare victim.

Ratios of one process: every round times the bare forward pass, the undefended answer and each
defence one after the other, in an order that rotates. What a defence adds is its time less that of
the undefended answer, in forward passes; what is reported is the median over rounds. On a CPU the
time is that of the thread, so that what other processes take does not count; run it with one
thread.

    python -m benchmarks.defence_cost [--json] [--victim digits] [--rounds 9] [--batch 256]

Networks are untrained: time depends on their shape alone.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch

from envs.data.images import ImageSet, Splits
from envs.defences.base import Defence, HardenKit
from envs.defences.gradient_redirection import GradientRedirection
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

BARE, UNDEFENDED = "bare", "undefended"


class Case(NamedTuple):
    """A defence, and what it may add to an answer, in forward passes; None: nothing is asked."""

    make: Callable[[], Defence]
    target: float | None


CASES: Mapping[str, Case] = {
    "randp": Case(partial(RandP, epsilon=0.5), 0.1),
    "randp-hash": Case(partial(RandP, epsilon=0.5, randomness="hash"), None),
    "truncation": Case(partial(Truncation, decimals=1), 0.1),
    "p-poison-small": Case(partial(PredictionPoisoning, surrogate="small"), 0.1),
    "p-poison": Case(PredictionPoisoning, None),  # as published: a second victim answers too
    "grad": Case(partial(GradientRedirection, surrogate="untrained"), 3.0),
    "meco": Case(partial(MeCo, scale=0.1, retrain="off"), 2.0),
    "reverse-sigmoid": Case(ReverseSigmoid, None),
    "modelguard-w": Case(ModelGuardW, None),
    "modelguard-s": Case(ModelGuardS, None),
}
"""Retraining and the surrogate's training change no shape, and are left out."""

VICTIMS: Mapping[str, tuple[str, tuple[int, int, int]]] = {
    "digits": ("resnet10-half", (1, 8, 8)),
    "resnet18-8x": ("resnet18-8x", (3, 32, 32)),
}
"""Network and image shape by name."""


def measure(
    victim: str = "digits",
    *,
    batch: int = 256,
    rounds: int = 9,
    cases: Sequence[str] | None = None,
    device: str = "cpu",
) -> dict[str, dict[str, float | bool | None]]:
    """Measure what each defence adds to an answer.

    Args:
        victim: a name of `VICTIMS`.
        batch: images of a request.
        rounds: how often everything is timed, after one round that is not counted.
        cases: names of `CASES`; all of them if absent.
        device: where it runs.

    Returns:
        By defence: `ratio`, the time of a defended answer over that of a bare forward pass;
        `added`, what it takes beyond the undefended answer, in forward passes; `macs`, the same of
        counted multiply-accumulates; `target` of `added`, and `met`, both None where nothing is
        asked.
    """
    place = torch.device(device)
    bare = _victim(victim, place)
    images = torch.rand((batch, *bare.image_shape), generator=Streams(0).torch("images")).to(place)
    names = list(cases or CASES)
    generator = torch.Generator(device=place).manual_seed(0)
    undefended = partial(Defence().answer, bare, images, clock=Untimed(), generator=generator)
    calls: dict[str, Callable[[], object]] = {
        BARE: partial(bare.posteriors, images), UNDEFENDED: undefended,
    }  # fmt: skip
    macs = {}
    for name in names:
        defence = CASES[name].make()
        hardened = defence.harden(_victim(victim, place), _kit(bare, place))
        macs[name] = (hardened.profile.macs[-1] + defence.overhead_macs) / bare.profile.macs[-1] - 1
        calls[name] = partial(
            defence.answer, hardened, images, clock=Untimed(), generator=generator
        )
    times = _interleaved(calls, rounds=rounds, device=place)
    return {name: _verdict(name, times, macs[name]) for name in names}


def _verdict(
    name: str, times: Mapping[str, Sequence[float]], macs: float
) -> dict[str, float | bool | None]:
    rounds = list(zip(times[name], times[UNDEFENDED], times[BARE], strict=True))
    added = statistics.median((defended - plain) / bare for defended, plain, bare in rounds)
    target = CASES[name].target
    return {
        "ratio": statistics.median(defended / bare for defended, _, bare in rounds),
        "added": added,
        "macs": macs,
        "target": target,
        "met": None if target is None else added < target,
    }


def _interleaved(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, device: torch.device
) -> dict[str, list[float]]:
    """Time every call once a round, in rotating order; the first round warms up."""
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad():
        for number in range(rounds + 1):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                seconds = _seconds(calls[name], device)
                if number:
                    times[name].append(seconds)
    return times


def _seconds(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cpu":
        began = time.thread_time()
        call()
        return time.thread_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _victim(name: str, device: torch.device) -> Victim:
    network, shape = VICTIMS[name]
    backbone = registry.build(
        network,
        num_classes=10,
        image_shape=shape,
        generator=Streams(0).torch("weights"),
        mean=(0.5,) * shape[0],
        std=(0.25,) * shape[0],
    )
    return Victim(MultiExit(backbone.to(device), ()))


def _kit(victim: Victim, device: torch.device) -> HardenKit:
    """Lend a defender a few random images: what is made of them has the shape that matters."""
    pixels = torch.randint(
        0, 256, (64, *victim.image_shape), dtype=torch.uint8, generator=Streams(0).torch("data")
    ).to(device)
    labels = (torch.arange(64) % victim.num_classes).to(device)
    classes = tuple(map(str, range(victim.num_classes)))
    images = ImageSet(pixels, labels, victim.num_classes, "random", classes)
    plan = victim.network.backbone.plan
    data = Splits(images, images, images, plan.mean, plan.std, "random", "0" * 16)
    return HardenKit(data, Streams(0), device)


def _told(found: Mapping[str, Mapping[str, float | bool | None]]) -> str:
    lines = [f"{'defence':<16} {'x bare':>7} {'added':>7} {'MACs':>7} {'target':>7}"]
    for name, one in found.items():
        target = "" if one["target"] is None else f"{one['target']:>7.2f}"
        fails = "  missed" if one["met"] is False else ""
        lines.append(
            f"{name:<16} {one['ratio']:>7.2f} {one['added']:>7.2f} {one['macs']:>7.2f} "
            f"{target}{fails}".rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a defended answer costs.")
    parser.add_argument("--victim", choices=[*VICTIMS, "all"], default="all")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--cases", nargs="+", choices=[*CASES], default=None, metavar="DEFENCE")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)  # the time of a thread must be that of the work
    names = list(VICTIMS) if asked.victim == "all" else [asked.victim]
    found = {
        name: measure(
            name, batch=asked.batch, rounds=asked.rounds, cases=asked.cases, device=asked.device
        )
        for name in names
    }
    if asked.json:
        print(
            json.dumps({"batch": asked.batch, "rounds": asked.rounds, "victims": found}, indent=1)
        )
        return
    for name, one in found.items():
        print(f"victim {name}, batch {asked.batch}, median of {asked.rounds} rounds")
        print(_told(one))


if __name__ == "__main__":
    main()
