"""The real clock: holding answers back until they are due."""

import pytest
import torch

from envs.game.clocks import WallClock, make_clock
from envs.seeding import Streams


class Instant:
    """A victim that answers at once, and says that each image took a millisecond."""

    is_remote = True  # no warm-up

    def answer_each(self, images, *, generator, ood):
        return None, torch.full((len(images),), 1e-3, dtype=torch.float64)


def held_for(sent, *, holds):
    """Return the seconds a request is held whose answers a defence sends after `sent`."""
    slept = []
    clock = WallClock(0, holds=holds, sleep=slept.append)
    images = torch.zeros(len(sent), 1, 8, 8)
    clock.serve(Instant(), images, generator=torch.Generator(), ood=False)
    said = clock.deliver(torch.tensor(sent, dtype=torch.float64), images)
    assert said.tolist() == sent  # what is held is what is told
    return sum(slept)


def test_a_server_holds_answers_until_all_of_them_are_due_one_after_the_other():
    assert 0.9 < held_for([0.5, 0.5], holds=True) <= 1.0


def test_a_late_answer_is_sent_at_once():
    assert held_for([0.0], holds=True) == 0


def test_a_game_in_one_process_waits_for_nothing():
    assert held_for([0.5, 0.5], holds=False) == 0


@pytest.mark.parametrize("holds", [True, False])
def test_the_clock_is_made_as_told(holds):
    assert make_clock("wall", Streams(0), holds=holds)._holds is holds
