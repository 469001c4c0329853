"""Measures how fast one core trains and asks small networks at 32x32: the table of docs/speed.md.

    OMP_NUM_THREADS=1 python -m benchmarks.training_speed [--write]

Processor time, so that others on the machine disturb little; a machine whose cores share their
arithmetic is slower when it is busy all the same. Training is that of the recipe "short32", with
and without bfloat16; asking is that of a victim without exits.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from benchmarks.attacker_table import publish
from benchmarks.pages import ROOT, table
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged
from envs.training.loop import fit
from envs.training.recipes import recipe
from envs.victim.victim import Victim

PAGE = ROOT / "docs" / "speed.md"
IMAGES = 2560
_SHAPE = (3, 32, 32)


class Candidate(NamedTuple):
    """A network that might be the victim or the clone."""

    network: str
    params: Mapping[str, Any] = {}  # of the registry, which checks them


CANDIDATES = (
    Candidate("resnet10"),
    Candidate("resnet10", {"width": 1.5}),
    Candidate("resnet10", {"width": 2.0}),
    Candidate("resnet10", {"stem_stride": 1}),
    Candidate("resnet10", {"stem_stride": 1, "width": 0.5}),
    Candidate("resnet18-8x", {"width": 0.125}),
    Candidate("resnet18-8x", {"width": 0.1875}),
    Candidate("mobilenetv2-small", {"width": 2.0}),
    Candidate("mobilenetv2", {"width": 0.35}),
)


def build(candidate: Candidate) -> Staged:
    """Build a network with starting weights."""
    generator = torch.Generator().manual_seed(0)
    return registry.build(
        candidate.network, num_classes=10, image_shape=_SHAPE, generator=generator,
        **candidate.params,
    )  # fmt: skip


def training(candidate: Candidate, **changes: object) -> float:
    """Return the images a second of one epoch on images without a meaning."""
    chance = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (IMAGES, *_SHAPE), generator=chance, dtype=torch.uint8)
    labels = torch.randint(10, (IMAGES,), generator=chance)
    network, each = build(candidate), recipe("short32", epochs=1, **changes)
    fit(network, pixels[:256], labels[:256], each, generator=chance)  # kernels are chosen here
    started = time.process_time()
    fit(network, pixels, labels, each, generator=chance)
    return IMAGES / (time.process_time() - started)


def asking(candidate: Candidate) -> float:
    """Return the queries a second of a victim without exits, 256 at a time."""
    chance = torch.Generator().manual_seed(1)
    victim = Victim(MultiExit(build(candidate)))
    images = torch.rand((256, *_SHAPE), generator=chance)
    victim.answer(images, generator=chance)
    started = time.process_time()
    for _ in range(IMAGES // 256):
        victim.answer(images, generator=chance)
    return IMAGES / (time.process_time() - started)


def line(candidate: Candidate) -> list[str]:
    """Measure a network: a row of the table."""
    network = MultiExit(build(candidate))
    given = ", ".join(f"{name} {value:g}" for name, value in candidate.params.items())
    exact = training(candidate, amp="none", amp_on_cpu=False)
    return [
        candidate.network, given, f"{Victim(network).profile.macs[-1] / 1e6:.1f}",
        f"{sum(p.numel() for p in network.parameters()):,}", f"{exact:,.0f}",
        f"{training(candidate):,.0f}", f"{asking(candidate):,.0f}",
    ]  # fmt: skip


def main() -> None:
    """Print the table, or write it into the page."""
    parser = argparse.ArgumentParser(description="How fast small networks train and answer.")
    parser.add_argument("--write", action="store_true", help="put the table into docs/speed.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    head = ["network", "parameters given", "million MACs", "weights", "trained images/s, float32",
            "bfloat16", "queries/s"]  # fmt: skip
    text = table(head, [line(candidate) for candidate in CANDIDATES])
    publish({"training-speed": text}, PAGE, write=asked.write)


if __name__ == "__main__":
    main()
