"""Runs a multi-exit network so that what has left is computed no further.

`run_compacted` drops the images that left from the batch at each exit, `run_masked` runs every
stage and selects afterwards, `run_each` serves the images one by one and measures each. All
three give the same answers.

`arena bench` measures how near they come to what the multiply-accumulates saved would allow.
"""

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from envs.exits.rules import ExitRule
from envs.nets.multi_exit import MultiExit
from envs.victim.compaction import Compaction, joined
from envs.victim.folded import evaluating, lay_out
from envs.victim.ties import Arbiter


class ExitAnswer(NamedTuple):
    """What a multi-exit network answered.

    Attributes:
        logits: (n, K), those of the exit each image left from.
        exits: (n,) int64, 0 .. N-1.
    """

    logits: Tensor
    exits: Tensor


class TimedAnswer(NamedTuple):
    """What a multi-exit network answered one image at a time, and how long each took.

    Attributes:
        logits: (n, K), those of the exit each image left from.
        exits: (n,) int64, 0 .. N-1.
        seconds: (n,) float64, wall time of each image at batch size 1.
    """

    logits: Tensor
    exits: Tensor
    seconds: Tensor


Chunk = int | Sequence[int] | None
"""Images run together: in every segment, in each segment, or all of a request."""

_BLOCK = 16
"""First chunks whose survivors wait for each other; bounds the memory of a large request."""


def run_compacted(
    network: MultiExit,
    images: Tensor,
    rule: ExitRule,
    *,
    generator: torch.Generator,
    ood: bool = False,
    chunk: Chunk = None,
    original: MultiExit | None = None,
) -> ExitAnswer:
    """Run the network and stop computing an image at the exit where it leaves.

    A rule that compares all exits is run masked, because nothing can be skipped for it.

    Args:
        network: the multi-exit network; run in evaluation mode, without gradients.
        images: (n, c, h, w) float32 in [0, 1], n at least 1.
        rule: decides who leaves where.
        generator: the stream of the rule's chance, on the images' device.
        ood: the simulator's hidden flag, for rules that are controls.
        chunk: images run together; the whole batch if absent. Chance does not depend on it.
        original: the network that decides ties, where `network` is its serving copy.

    Raises:
        ValueError: the rule or the chunk does not fit the network.
    """
    sizes = _sizes(chunk, network.num_exits, len(images))
    run = _masked if rule.needs_all_exits else _compacted
    with _serving(network, rule, original) as arbiter:
        state = rule.begin(images, generator=generator, ood=ood)
        answer = run(network, images, rule=rule, state=state, arbiter=arbiter, sizes=sizes)
    # copies made outside inference mode, so that a player may train on the answer
    return ExitAnswer(answer.logits.clone(), answer.exits.clone())


def run_masked(
    network: MultiExit,
    images: Tensor,
    rule: ExitRule,
    *,
    generator: torch.Generator,
    ood: bool = False,
    chunk: Chunk = None,
    original: MultiExit | None = None,
) -> ExitAnswer:
    """Run every stage on every image, then select; arguments and answers of `run_compacted`."""
    sizes = _sizes(chunk, network.num_exits, len(images))
    with _serving(network, rule, original) as arbiter:
        state = rule.begin(images, generator=generator, ood=ood)
        answer = _masked(network, images, rule=rule, state=state, arbiter=arbiter, sizes=sizes)
    return ExitAnswer(answer.logits.clone(), answer.exits.clone())


def run_each(
    network: MultiExit,
    images: Tensor,
    rule: ExitRule,
    *,
    generator: torch.Generator,
    ood: bool = False,
    original: MultiExit | None = None,
) -> TimedAnswer:
    """Serve the images one by one and measure the wall time of each.

    The clock starts before an image enters the network and stops when its answer is ready; on
    CUDA the device is waited for on both sides. The garbage collector rests meanwhile.
    """
    run = _masked if rule.needs_all_exits else _compacted
    sizes = (1,) * network.num_exits
    answers, seconds = [], []
    with _serving(network, rule, original) as arbiter, _without_collector():
        state = rule.begin(images, generator=generator, ood=ood)
        for image, row in zip(torch.split(images, 1), torch.split(state, 1), strict=True):
            _wait(images.device)
            began = time.perf_counter_ns()
            answer = run(network, image, rule=rule, state=row, arbiter=arbiter, sizes=sizes)
            _wait(images.device)
            seconds.append((time.perf_counter_ns() - began) / 1e9)
            answers.append(answer)
    logits = torch.cat([answer.logits for answer in answers])
    exits = torch.cat([answer.exits for answer in answers])
    taken = torch.tensor(seconds, dtype=torch.float64, device=images.device)
    return TimedAnswer(logits, exits, taken)


def _compacted(
    network: MultiExit,
    images: Tensor,
    *,
    rule: ExitRule,
    state: Tensor,
    arbiter: Arbiter,
    sizes: Sequence[int],
) -> ExitAnswer:
    """Run each stage only on those who are still inside."""
    block = _BLOCK * sizes[0]
    pairs = zip(torch.split(images, block), torch.split(state, block), strict=True)
    ways = [
        Compaction(network, part, rule=rule, state=rows, arbiter=arbiter, chunks=sizes).run()
        for part, rows in pairs
    ]
    logits, exits = zip(*ways, strict=True)
    return ExitAnswer(joined(logits), joined(exits))


def _masked(
    network: MultiExit,
    images: Tensor,
    *,
    rule: ExitRule,
    state: Tensor,
    arbiter: Arbiter,
    sizes: Sequence[int],
) -> ExitAnswer:
    """Run everything, chunk by chunk, and select; waits for the device only to look for ties."""
    outputs = [_all_exits(network, part) for part in torch.split(images, min(sizes))]
    logits = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)  # (N, n, K)
    exits = rule.choose(logits, state)
    unsure = rule.unsure(logits, state, tolerance=arbiter.tolerance(images.device))
    if unsure is not None:
        places = unsure.nonzero().squeeze(1)
        if len(places):
            tied = arbiter.choose(images[places], rule=rule, state=state[places])
            exits = exits.index_copy(0, places, tied)
    rows = torch.arange(len(images), device=images.device)
    return ExitAnswer(logits[exits, rows], exits)


def _all_exits(network: MultiExit, images: Tensor) -> Tensor:
    """Return the (N, n, K) logits of every exit."""
    features, outputs = lay_out(images, network), []
    for index in range(network.num_exits):
        features = network.run_segment(index, features)
        outputs.append(network.logits(index, features))
    return torch.stack(outputs)


def _sizes(chunk: Chunk, num_exits: int, count: int) -> Sequence[int]:
    """Say how many images run together in each segment."""
    if chunk is None:
        return (count,) * num_exits
    sizes = (chunk,) * num_exits if isinstance(chunk, int) else chunk
    if len(sizes) != num_exits or min(sizes) < 1:
        raise ValueError(
            f"expected a chunk of at least 1 image, or one for each of {num_exits} segments, "
            f"got {chunk}"
        )
    return sizes


@contextmanager
def _serving(network: MultiExit, rule: ExitRule, original: MultiExit | None) -> Iterator[Arbiter]:
    """Run without gradients and in evaluation mode; lends who decides ties."""
    rule.check(network.num_exits)
    original = network if original is None else original
    with evaluating(network), evaluating(original), torch.inference_mode():
        yield Arbiter(original)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector out of a measurement."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
