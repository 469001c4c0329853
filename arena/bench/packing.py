"""What packed weights bring to serving: the time of a request with them to its time without.

The serving copy of the network of the serving benchmark answers in both ways, in turn, whether or
not this processor packs by itself.
"""

import torch

from arena.bench.subjects import MIXES, Planned, eight_exits, images, mix
from arena.bench.timing import Line, Run, interleave, ratios
from envs.errors import ArenaError
from envs.nets.multi_exit import MultiExit
from envs.victim.chunk_size import chunks_for
from envs.victim.execution import run_compacted
from envs.victim.folded import serving_copy
from envs.victim.packed import can_pack

GROUP = "packing"


def measure(*, batches: tuple[int, ...] = (4, 32, 256), rounds: int = 5,
            width: float = 1.0) -> list[Line]:  # fmt: skip
    """Measure ratios of times for three mixes of exits; below 1, packing gains.

    Args:
        batches: images in a request.
        rounds: samples of each.
        width: factor on the network's channels.

    Raises:
        ArenaError: this torch cannot pack.
    """
    if not can_pack():
        raise ArenaError("this torch has no oneDNN, which packs weights")
    network = eight_exits(width)
    plain, packed = (serving_copy(network, packed=wanted) for wanted in (False, True))
    lines = []
    for batch in batches:
        for name in MIXES:
            exits = mix(name, batch, network.num_exits)
            runs = {
                "plain": _served(plain, network, exits),
                "packed": _served(packed, network, exits),
            }
            samples = interleave(runs, rounds=rounds, repeats=max(1, 32 // batch))
            ratio = ratios(samples["packed"], samples["plain"])
            what = f"{name}, batch {batch}: time to that without"
            lines.append(Line(GROUP, what, ratio.median, "x", ratio.low, ratio.high))
    return lines


def _served(copied: MultiExit, network: MultiExit, exits: torch.Tensor) -> Run:
    request, rule, chunks = (
        images(len(exits)),
        Planned(exits, network.num_exits),
        chunks_for(network),
    )
    unused = torch.Generator()
    return lambda: run_compacted(
        copied, request, rule, generator=unused, chunk=chunks, original=network
    )
