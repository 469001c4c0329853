"""Claims about running a whole network at padded sizes, and about trying ways to serve."""

import pytest
import torch

from envs.exits.rules import Thresholds, log_odds
from envs.nets.multi_exit import MultiExit, with_heads
from envs.nets.registry import build
from envs.victim.trial import SAMPLES, Trial
from envs.victim.victim import Victim
from envs.victim.whole import Padded, accelerated, outputs_of, padded_size


def stream() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def network() -> MultiExit:
    backbone = build("resnet10", num_classes=10, image_shape=(1, 8, 8), generator=stream())
    return with_heads(backbone, generator=stream()).eval()


def noise(count: int) -> torch.Tensor:
    return torch.rand((count, 1, 8, 8), generator=stream())


def test_padded_sizes_waste_at_most_a_third():
    for count in range(1, 2000):
        size = padded_size(count)
        assert count <= size
        assert size == 1 or size - count < size / 3 + 1
    assert len({padded_size(count) for count in range(1, 1025)}) < 22


def test_a_padded_request_answers_as_it_would_alone(network):
    prepared = []

    def prepare(net, images):
        prepared.append(len(images))
        return lambda batch: outputs_of(net, batch)

    padded = Padded(network, prepare)
    with torch.no_grad():
        for count in (5, 6, 7, 5):
            images = noise(count)
            expected = outputs_of(network, images)
            torch.testing.assert_close(padded(images), expected, rtol=0, atol=1e-5)
    assert prepared == [6, 8]


def test_a_masked_victim_runs_the_whole_network_in_the_way_it_is_given(network, monkeypatch):
    from envs.victim import victim as module

    calls = []

    def spy(net, way):
        def run(images):
            calls.append((way, len(images)))
            return outputs_of(net, images)

        return run

    monkeypatch.setattr(module, "accelerated", spy)
    images = noise(12)
    with torch.no_grad():
        middle = float(log_odds(network.forward_all(images)[0]).median()) + 1e-3
    rule = Thresholds.from_log_odds([middle] * 4)
    plain = Victim(network, rule=rule).answer(images, generator=stream())
    victim = Victim(network, rule=rule, execution="masked", acceleration="compiled")
    answer = victim.answer(images, generator=stream())
    assert calls == [("compiled", 12)]
    assert torch.equal(answer.exits, plain.exits)
    torch.testing.assert_close(answer.posteriors, plain.posteriors, rtol=0, atol=1e-5)


def test_graphs_are_refused_where_there_is_no_cuda(network):
    with pytest.raises(ValueError, match="recorded on CUDA alone"):
        accelerated(network, "graphs")
    with pytest.raises(ValueError, match="expected 'none', 'compiled' or 'graphs'"):
        accelerated(network, "fast")


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
