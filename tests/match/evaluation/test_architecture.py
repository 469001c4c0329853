"""The referee holds every attribute an attacker speaks of against how the victim is built."""

import pytest
import torch

from agents.base import ArchitectureGuess
from arena.evaluation.architecture import score_inferences, truth_of, visited_exits
from envs.exits.rules import Thresholds
from envs.nets import registry
from envs.nets.multi_exit import MultiExit, with_heads
from envs.seeding import Streams
from envs.victim.victim import Victim

THRESHOLDS = (0.9, 0.92, 0.94, 0.96)


@pytest.fixture(scope="module")
def victim() -> Victim:
    """Five exits, the last two of nearly one cost: the head after the last stage, and the end."""
    streams = Streams(0)
    backbone = registry.build(
        "resnet10", num_classes=10, image_shape=(1, 8, 8), generator=streams.torch("weights")
    )
    network = with_heads(backbone, generator=streams.torch("heads"))
    return Victim(network.eval(), rule=Thresholds(THRESHOLDS))


class Writer:
    def __init__(self):
        self.rows = {}

    def inference(self, row):
        self.rows[row.attribute] = row


def scored(guess, victim, answers):
    writer = Writer()
    score_inferences(guess, writer, truth=truth_of(victim, answers))
    return writer.rows


def test_exits_of_one_cost_count_once_and_rare_ones_not_at_all(victim):
    assert visited_exits(victim, (50, 50, 50, 25, 25)) == ((0,), (1,), (2,), (3, 4))
    assert visited_exits(victim, (996, 3, 0, 0, 1)) == ((0,),)
    assert visited_exits(victim, (0, 0, 0, 0, 0)) == ()


def test_exits_visited_and_exits_that_exist_are_two_truths(victim):
    truth = truth_of(victim, (90, 10, 0, 0, 0))

    assert (truth["exits_visited"], truth["exits"]) == (2, 5)
    macs = victim.profile.macs
    assert truth["exit_costs"] == pytest.approx((macs[0] / macs[1], 1.0))
    assert truth["thresholds"] == pytest.approx(THRESHOLDS[:1])


def test_of_exits_of_one_cost_the_deepest_gives_the_cost_and_the_lowest_the_threshold(victim):
    truth = truth_of(victim, (0, 50, 0, 25, 25))
    assert truth["exit_costs"][-1] == 1.0
    assert truth["thresholds"] == pytest.approx(THRESHOLDS[1:2])


def test_all_that_a_probe_can_find_can_be_right(victim):
    shares = victim.profile.shares
    guess = ArchitectureGuess(
        family="resnet",
        architecture="resnet10",
        depth=10,
        width=16,
        exits_visited=4,
        exits=5,
        exit_costs=(shares[0], shares[1] + 0.05, shares[2], 1.0),
        thresholds=(0.901, 0.921, 0.945),
        confidence={"family": 0.9},
    )
    rows = scored(guess, victim, (20, 20, 20, 20, 20))

    assert {name for name, row in rows.items() if row.correct is not True} == set()
    assert rows["family"].confidence == 0.9
    assert rows["exits"].truth == 5


def test_what_is_wrong_is_said_to_be_wrong_and_what_is_unknown_is_neither(victim):
    guess = ArchitectureGuess(family="vgg", exits_visited=3, thresholds=(0.9, 0.92, 0.97))
    rows = scored(guess, victim, (20, 20, 20, 20, 20))

    assert rows["family"].correct is rows["exits_visited"].correct is False
    assert rows["thresholds"].correct is False
    assert rows["depth"].correct is None
    assert rows["depth"].truth == 10


def test_a_victim_without_exits_shows_one_and_has_no_threshold(victim):
    plain = Victim(MultiExit(victim.network.backbone, ()))
    rows = scored(ArchitectureGuess(exits_visited=1, thresholds=(0.9,)), plain, (100,))

    assert rows["exits_visited"].correct is True
    assert rows["thresholds"].correct is None
    assert torch.isfinite(torch.tensor(rows["exit_costs"].truth)).all()


def test_nothing_is_written_of_an_attacker_that_infers_nothing(victim):
    assert scored(None, victim, (1, 1, 1, 1, 1)) == {}
