"""Early-exit serving against the whole network and against the limit its arithmetic sets.

The limit is the time of the whole network times the mean share of multiply-accumulates that the
exits need. The whole network runs in the fastest way found: several chunks are tried, with and
without folding, in the same run. A second limit does not count multiplications with padding.
"""

import torch

from arena.bench.padding import unpadded_shares
from arena.bench.subjects import MIXES, Planned, eight_exits, images, mix
from arena.bench.timing import Line, Run, interleave, ratios, spread
from envs.exits.rules import FinalOnly
from envs.nets.multi_exit import MultiExit
from envs.victim.execution import run_compacted
from envs.victim.victim import Victim

TARGETS = {"uniform": 0.95, "90 % first": 0.90}
GROUP = "serving"


def measure(*, batches: tuple[int, ...] = (1, 32, 256), rounds: int = 5, width: float = 1.0,
            tries: int = 3) -> list[Line]:  # fmt: skip
    """Measure speeds and shares of the limit for three mixes of exits.

    Args:
        batches: images in a request; targets hold for 256.
        rounds: samples of each.
        width: factor on the network's channels.
        tries: samples of each way to run the whole network, before the fastest is chosen.
    """
    network = eight_exits(width)
    lines: list[Line] = []
    for batch in batches:
        # single images take one exit at a time, so that a mix needs several of them
        requests = max(1, 32 // batch)
        lines += _measure_batch(network, batch, requests, rounds=rounds, tries=tries)
    return lines


def _measure_batch(
    network: MultiExit, batch: int, requests: int, *, rounds: int, tries: int
) -> list[Line]:
    victim, parts = Victim(network), images(batch * requests).split(batch)
    whole_name, whole = _fastest_whole(victim, parts, tries)
    runs, exits = {"whole": whole}, {}
    for name in MIXES:
        exits[name] = mix(name, batch * requests, victim.num_exits)
        runs[name] = _served(victim, parts, exits[name])
    samples = interleave(runs, rounds=rounds)
    shares = torch.tensor(victim.profile.shares, dtype=torch.float64)
    unpadded = torch.tensor(unpadded_shares(network), dtype=torch.float64)
    seconds = spread(samples["whole"])
    scale = 1e3 / (batch * requests)
    lines = [Line(GROUP, f"whole network, batch {batch}", seconds.median * scale, "ms per image",
                  seconds.low * scale, seconds.high * scale, note=whole_name)]  # fmt: skip
    for name in MIXES:
        share = float(shares[exits[name]].mean())
        speed = ratios(samples["whole"], samples[name])
        limit = ratios(samples["whole"], samples[name], share)
        note = f"mean share of MACs {share:.3f}"
        lines.append(Line(GROUP, f"{name}, batch {batch}: speed of the whole network", speed.median,
                          "x", speed.low, speed.high, note=note))  # fmt: skip
        target = TARGETS.get(name) if batch == 256 else None
        lines.append(Line(GROUP, f"{name}, batch {batch}: share of the MAC limit", limit.median,
                          "x", limit.low, limit.high, target=target))  # fmt: skip
        if share < 1:
            share = float(unpadded[exits[name]].mean())
            limit = ratios(samples["whole"], samples[name], share)
            note = f"mean share of multiplications outside the padding {share:.3f}"
            lines.append(Line(GROUP, f"{name}, batch {batch}: share of the limit without padding",
                              limit.median, "x", limit.low, limit.high, note=note))  # fmt: skip
    return lines


def _served(victim: Victim, parts: tuple[torch.Tensor, ...], exits: torch.Tensor) -> Run:
    requests = [
        (victim.with_rule(Planned(rows, victim.num_exits)), part)
        for part, rows in zip(parts, exits.split(len(parts[0])), strict=True)
    ]
    unused = torch.Generator()
    return lambda: [planned.answer(part, generator=unused) for planned, part in requests]


def _fastest_whole(victim: Victim, parts: tuple[torch.Tensor, ...], tries: int) -> tuple[str, Run]:
    """Try ways to run the whole network, and return the name and the run of the fastest."""
    unused = torch.Generator()

    def original(chunk: int | None) -> Run:
        return lambda: [
            run_compacted(victim.network, part, FinalOnly(), generator=unused, chunk=chunk)
            for part in parts
        ]

    def copied(chunk: int | None) -> Run:
        other = Victim(victim.network, chunk=chunk)
        return lambda: [other.posteriors(part) for part in parts]

    runs = {"folded, chunks for the cache": copied(None)}
    if len(parts[0]) > 32:
        runs |= {"folded, chunks of 16": copied(16), "folded, chunks of 64": copied(64)}
        runs |= {"as trained, chunks of 32": original(32)}
    else:
        runs |= {"as trained": original(None)}
    samples = interleave(runs, rounds=tries)
    best = min(samples, key=lambda name: min(samples[name]))
    return best, runs[best]
