"""What an attacker sets for its own training stays outside the victim."""

from contextlib import nullcontext

import pytest
import torch

from envs.defences.base import Defence, DeployedDefence
from envs.game.clocks import make_clock
from envs.game.extraction_game import ExtractionGame
from envs.nets import registry
from envs.nets.multi_exit import MultiExit
from envs.seeding import Streams
from envs.types import ThreatModel
from envs.victim.victim import Victim

SHAPE = (1, 8, 8)


@pytest.mark.parametrize("network", ["resnet10", "conv-small", "mlp-small"])
def test_autocast_of_whoever_asks_stays_outside_the_victim(network, defender):
    def play(precision):
        built = registry.build(network, num_classes=10, image_shape=SHAPE,
                               generator=torch.Generator().manual_seed(0))  # fmt: skip
        streams = Streams(3)
        game = ExtractionGame(
            ThreatModel(10, SHAPE, 100),
            [DeployedDefence("none", Defence(), Victim(MultiExit(built, ())))],
            defender,
            clock=make_clock("none", streams),
            streams=streams,
        )
        images = torch.rand(8, *SHAPE, generator=torch.Generator().manual_seed(1))
        with precision:
            first = game.play(images).posteriors
        return torch.cat([first, game.play(images).posteriors])

    with torch.autocast("cpu", enabled=False):
        plain = play(nullcontext())
    assert torch.equal(plain, play(torch.autocast("cpu", dtype=torch.bfloat16)))
