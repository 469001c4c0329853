"""Where an iteration of DFME spends its time on a device, and what the clone's steps could gain."""

from contextlib import AbstractContextManager, nullcontext

import torch

from agents.attackers.dfme import DFME
from agents.base import Kit
from agents.learning.clone import CloneTrainer, l1_on_logits
from agents.learning.generators import Synthesiser
from arena.bench.device import Figures, in_turn, summed_up
from arena.bench.overhead import new_oracle
from arena.bench.subjects import SHAPE, eight_exits, generator, image_set, images, plain
from arena.bench.timing import Run, spread
from envs.victim.victim import Victim

GOAL = 20_000_000
"""Queries of the published attack."""


def kit_on(device: torch.device, width: float) -> Kit:
    """Lend what a match lends an attacker, with ResNet18-8x clones."""
    return Kit(
        device=device,
        generator=torch.Generator(device).manual_seed(3),
        new_clone=lambda: plain("resnet18-8x", width).backbone.to(device).train(),
        surrogate_pool=image_set(64),
    )


def measure(
    *, device: torch.device, batch: int = 256, width: float = 1.0, rounds: int = 20
) -> dict[str, Figures]:
    """Measure an iteration of DFME against a ResNet34-8x, and its phases one by one.

    Returns:
        By phase, and for `iteration` through game and log: `seconds` with quartiles, and
        `images_per_second`; for `iteration` also `minutes` for 20 M queries, and `over_phases`,
        its time over the sum of the phases in the numbers they occur in.
    """
    victim, kit = Victim(eight_exits(width).to(device)), kit_on(device, width)
    attacker = DFME(batch=batch)
    with new_oracle(victim, 10**9) as oracle:
        attacker.prepare(oracle, kit)

        def iteration() -> None:
            attacker.generator_step(oracle, kit)
            for _ in range(attacker.settings.clone_steps):
                attacker.clone_step(oracle, kit, batch)

        runs: dict[str, Run] = {"iteration": iteration, **_phases(victim, kit, batch)}
        samples = in_turn(runs, device, rounds=rounds, warm_up=2)
    cost = attacker.settings.cost
    results = {
        name: summed_up(taken, cost if name == "iteration" else batch)
        for name, taken in samples.items()
    }
    median = {name: spread(taken).median for name, taken in samples.items()}
    parts = (
        7 * median["victim"] + 2 * median["clone forward"] + 5 * median["draw images"]
        + 5 * median["clone step"] + median["generator step"]
    )  # fmt: skip
    results["iteration"]["over_phases"] = median["iteration"] / parts
    results["iteration"]["minutes"] = GOAL / cost * median["iteration"] / 60
    return results


def _phases(victim: Victim, kit: Kit, batch: int) -> dict[str, Run]:
    synthesiser = Synthesiser.fresh(SHAPE, rate=1e-4, generator=kit.generator)
    trainer = CloneTrainer(kit.new_clone(), l1_on_logits, rate=0.1)
    asked = images(batch).to(kit.device)
    targets = victim.posteriors(asked)
    gradient = torch.zeros_like(asked)

    def forward() -> None:
        with torch.no_grad():
            trainer.clone(asked)

    return {
        "victim": lambda: victim.posteriors(asked),
        "draw images": lambda: synthesiser.images(batch),
        "clone forward": forward,
        "clone step": lambda: trainer.step(asked, targets),
        "generator step": lambda: synthesiser.descend(synthesiser.pre_activations(batch), gradient),
    }


def clone_steps(
    *, device: torch.device, batch: int = 256, width: float = 1.0, rounds: int = 20
) -> dict[str, Figures]:
    """Measure a clone's step in several layouts and precisions, all in turn.

    The game's own clones train in float32 (convolutions in TF32 where cuDNN may); the others show
    what there is to gain. Finite differences are no part of a clone's step.
    """
    asked = images(batch).to(device)
    targets = torch.full((batch, 10), 0.1, device=device)
    runs: dict[str, Run] = {}
    for layout in ("planes", "channels-last"):
        for precision in ("float32", "bfloat16"):
            trainer = CloneTrainer(kit_on(device, width).new_clone(), l1_on_logits, rate=0.1)
            given = asked
            if layout == "channels-last":
                given = asked.contiguous(memory_format=torch.channels_last)
                trainer.clone.to(memory_format=torch.channels_last)
            runs[f"{layout}, {precision}"] = _step(trainer, given, targets, precision)
    samples = in_turn(runs, device, rounds=rounds, warm_up=2)
    return {name: summed_up(taken, batch) for name, taken in samples.items()}


def _step(trainer: CloneTrainer, asked: torch.Tensor, targets: torch.Tensor, precision: str) -> Run:
    def context() -> AbstractContextManager[object]:
        if precision == "float32":
            return nullcontext()
        return torch.autocast(asked.device.type, torch.bfloat16)

    def run() -> None:
        with context():
            trainer.step(asked, targets)

    return run


def matrix_rate(*, device: torch.device, size: int = 4096, rounds: int = 10) -> Figures:
    """Measure FLOP a second of float32 matrix products, in true float32 and in TF32."""
    left = torch.rand((size, size), generator=generator()).to(device)
    before = torch.backends.cuda.matmul.allow_tf32
    rates: Figures = {}
    try:
        for name, allowed in (("float32", False), ("tf32", True)):
            torch.backends.cuda.matmul.allow_tf32 = allowed
            samples = in_turn({"product": lambda: left @ left}, device, rounds=rounds, warm_up=2)
            rates[name] = 2 * size**3 / spread(samples["product"]).median
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return rates
