"""Claims about choosing an execution by trial."""

import pytest
import torch

from envs.exits.rules import Thresholds
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.victim.execution_choice import SAMPLES, Trial
from envs.victim.victim import Victim


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def network() -> MultiExit:
    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=stream())
    return with_heads(backbone, generator=stream()).eval()


def noise(count: int) -> torch.Tensor:
    return torch.rand((count, 1, 8, 8), generator=stream())


class Clockwork:
    """Ways to serve that take as long as they are told."""

    def __init__(self, **seconds: float) -> None:
        self.now, self.served = 0.0, []
        self.ways = {name: self._way(name, taken) for name, taken in seconds.items()}

    def _way(self, name: str, seconds: float):
        def serve() -> str:
            self.now += seconds
            self.served.append(name)
            return name

        return serve


def test_the_faster_way_serves_after_each_was_tried_and_sizes_are_told_apart():
    machine = Clockwork(compacted=2.0, masked=1.0)
    trial = Trial(torch.device("cpu"), clock=lambda: machine.now)
    for _ in range(2 * SAMPLES):
        trial.run(256, machine.ways)
    assert machine.served.count("compacted") == machine.served.count("masked") == SAMPLES
    assert [trial.run(300, machine.ways) for _ in range(3)] == ["masked"] * 3
    assert trial.chosen == {9: "masked"}
    slower = Clockwork(compacted=1.0, masked=2.0)
    trial = Trial(torch.device("cpu"), clock=lambda: slower.now)
    for _ in range(2 * SAMPLES):
        trial.run(1, slower.ways)
    assert trial.chosen == {1: "compacted"}


def test_on_a_cpu_nothing_is_tried_so_that_episodes_repeat(network):
    victim = Victim(network, rule=Thresholds([0.5] * 4))
    for _ in range(3):
        victim.answer(noise(8), generator=stream())
    assert victim.execution == "auto"
    assert victim._trial is None
