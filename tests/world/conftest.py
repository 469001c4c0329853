"""A small victim of real digits, which defences are tried on, and a clock that is driven."""

import copy
import time
from dataclasses import dataclass, replace
from functools import cached_property

import pytest
import torch

from envs.data.images import Splits
from envs.data.sources import load
from envs.defences.base import Defence
from envs.defences.harden_kit import HardenKit
from envs.game.clocks import make_clock
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.nets.staged import Staged
from envs.seeding import Streams
from envs.training.loop import fit
from envs.training.recipes import recipe_for
from envs.victim.victim import Victim


@dataclass(frozen=True)
class DigitsWorld:
    """A victim trained on a few digits, and images to ask it: half digits, half noise."""

    data: Splits
    backbone: Staged

    def victim(self) -> Victim:
        return Victim(MultiExit(copy.deepcopy(self.backbone), ()))

    def kit(self, seed=0, **changes) -> HardenKit:
        kit = HardenKit(self.data, Streams(seed), torch.device("cpu"))
        return replace(kit, **changes)

    @cached_property
    def images(self) -> torch.Tensor:
        noise = torch.rand((32, 1, 8, 8), generator=torch.Generator().manual_seed(5))
        return torch.cat((self.data.test.images(slice(0, 32)), noise))

    def serve(
        self, defence, victim, images=None, *, seed=0, strength=1.0, labels="soft", latency="none"
    ):
        """Answer by a hardened defence, the way the game does."""
        with torch.no_grad():
            return defence.answer(
                victim,
                self.images if images is None else images,
                clock=make_clock(latency, Streams(seed)),
                generator=Streams(seed).torch("defence"),
                strength=strength,
                labels=labels,
            )

    def clean(self, images=None) -> torch.Tensor:
        """Return the undefended answers."""
        if images is None:
            return self._clean.clone()
        return self.serve(Defence(), self.victim(), images).posteriors

    @cached_property
    def _clean(self) -> torch.Tensor:
        return self.clean(self.images)


@pytest.fixture(scope="session")
def digits_world() -> DigitsWorld:
    full = load("digits")
    data = replace(
        full,
        train=full.train.select(slice(0, 256)),
        validation=full.validation.select(slice(0, 100)),
        test=full.test.select(slice(0, 200)),
    )
    generator = torch.Generator().manual_seed(0)
    backbone = registry.build(
        "resnet10-half",
        num_classes=10,
        image_shape=data.image_shape,
        generator=generator,
        mean=data.mean,
        std=data.std,
    )
    plan = recipe_for(data.image_shape).with_changes(epochs=8, batch=32)
    fit(backbone, data.train.pixels, data.train.labels, plan, generator=generator)
    return DigitsWorld(data, backbone.eval())


@pytest.fixture
def a_millisecond_a_segment(monkeypatch):
    """Let the measured time be what ran, one millisecond for each segment of a network."""
    now, run_segment = 0, MultiExit.run_segment

    def slowly(*arguments):
        nonlocal now
        now += 1_000_000
        return run_segment(*arguments)

    monkeypatch.setattr(time, "perf_counter_ns", lambda: now)
    monkeypatch.setattr(MultiExit, "run_segment", slowly)
