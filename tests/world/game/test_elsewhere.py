"""What a victim elsewhere charges, and what it does not."""

import pytest
import torch

from envs.defences.base import Defence, DeployedDefence
from envs.errors import VictimUnreachable
from envs.game.extraction_game import ExtractionGame
from envs.seeding import Streams
from envs.types import ThreatModel

SHAPE = (1, 8, 8)


class Lost:
    """A victim elsewhere and its ledger: some requests never reach it, and are not charged."""

    def __init__(self):
        self.charged, self.is_down = 0, False

    def serve(self, victim, images, *, generator, ood):
        if self.is_down:
            raise VictimUnreachable("down")
        self.charged += len(images)
        return victim.answer(images, generator=generator, ood=ood), None

    def deliver(self, seconds, images):
        return seconds


@pytest.mark.parametrize("accounts", [1, 2])
def test_requests_that_never_reached_a_victim_elsewhere_cost_no_account(victim, defender, accounts):
    elsewhere, streams = Lost(), Streams(1)
    game = ExtractionGame(
        ThreatModel(10, SHAPE, 100, accounts=accounts),
        [DeployedDefence("none", Defence(), victim)],
        defender,
        clock=elsewhere,
        streams=streams,
        ledger=elsewhere,
    )
    images = torch.rand(30, *SHAPE)
    game.play(images)
    elsewhere.is_down = True
    for _ in range(3):
        with pytest.raises(VictimUnreachable):
            game.play(images)
    assert (game.remaining, sum(game.charged_by_account)) == (70, 30)
    elsewhere.is_down = False
    game.play(images)
    assert (game.remaining, sum(game.charged_by_account)) == (40, 60)
