"""The referee measures the service that defences give, on three classes worked out by hand."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.defenders.schedule import Schedule
from agents.defenders.static import Static
from arena.evaluation.referee import Referee
from envs.data.images import ImageSet
from envs.defences.base import Defence, DeployedDefence
from envs.seeding import Streams
from envs.victim.victim import VictimAnswer

# the victim answers 0.7 for the brightest of three pixels and 0.15 for the others
BRIGHTEST = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])  # the victim is right on six of eight
NAMES = ("a", "b", "c")


class Brightest:
    """A victim of two exits."""

    num_exits, num_classes, device = 2, 3, torch.device("cpu")

    def posteriors(self, images):
        return 0.15 + 0.55 * nn.functional.one_hot(images.flatten(1).argmax(1), 3).float()

    def answer(self, images, *, generator, ood=False):
        # the third class leaves at the first exit
        exits = (images.flatten(1).argmax(1) != 2).long()
        return VictimAnswer(self.posteriors(images), exits)


class Next(Defence):
    """Serves the answer of the next class: every label is wrong."""

    epsilon = 2.0

    def perturb_posteriors(self, posteriors, serving):
        return posteriors.roll(1, 1)


class Softer(Defence):
    """Keeps every label and moves 0.2 of the mass away from it."""

    epsilon = 0.4

    def perturb_posteriors(self, posteriors, serving):
        return posteriors - 0.2 * (posteriors > 0.5) + 0.1 * (posteriors < 0.5)


@pytest.fixture
def test_set():
    pixels = 255 * nn.functional.one_hot(BRIGHTEST, 3).to(torch.uint8).view(8, 1, 1, 3)
    return ImageSet(pixels, LABELS, 3, "made up", NAMES)


@pytest.fixture
def referee(test_set):
    # at checkpoints the victim is right on all eight
    return Referee(replace(test_set, labels=BRIGHTEST), test_set, Brightest())


def served(referee, defence, defender=None, **options):
    deployed = DeployedDefence("d", defence, Brightest())
    return referee.score_service([deployed], defender or Static(), streams=Streams(0),
                                 labels="soft", **options)  # fmt: skip


def test_without_a_defence_the_service_is_the_victims(referee):
    found = served(referee, Defence())
    assert referee.victim_accuracy == 6 / 8
    assert (found.accuracy, found.agreement) == (6 / 8, 1.0)
    assert (found.distortion_mean, found.distortion_p95) == (0.0, 0.0)
    assert found.exits == (3, 5)  # of eight images three are of the third class


def test_a_defence_that_flips_every_label_is_seen(referee):
    """Served 1, 1, 2, 2, 0, 0, 0, 1 against 0, 0, 1, 1, 2, 2, 0, 1: the last two are right."""
    found = served(referee, Next())
    assert (found.accuracy, found.agreement) == (2 / 8, 0.0)
    # 0.7 and 0.15 change places: twice 0.55
    assert found.distortion_mean == pytest.approx(1.1)
    assert found.distortion_p95 == pytest.approx(1.1)


def test_a_defence_that_keeps_labels_is_seen_by_its_distance(referee):
    found = served(referee, Softer())
    assert (found.accuracy, found.agreement) == (6 / 8, 1.0)
    assert found.distortion_mean == pytest.approx(0.4)  # 0.2 away and 0.1 to each of two


def test_the_defender_decides_also_of_what_the_referee_asks(referee):
    assert served(referee, Next(), Static(strength=0.0)).agreement == 1.0
    turned = Schedule([{"from": 0, "strength": 0.0}, {"from": 6}])
    # in requests of three images the third one begins after six answers: two of eight are flipped
    found = served(referee, Next(), turned, batch=3)
    assert found.agreement == 6 / 8
    assert found.distortion_mean == pytest.approx(1.1 * 2 / 8)
    assert found.distortion_p95 == pytest.approx(1.1)
    assert served(referee, Next(), turned, answered=6, batch=3).agreement == 0.0


class Says(nn.Module):
    """A clone that names these classes for the eight images, in their order."""

    def __init__(self, classes):
        super().__init__()
        self.classes = classes

    def forward(self, images):
        assert len(images) == 8
        return nn.functional.one_hot(torch.tensor(self.classes), 3).float()


def test_a_clone_is_held_against_the_labels_and_against_the_victim(referee):
    right = referee.score(Says(LABELS.tolist()))
    assert (right.accuracy, right.fidelity) == (1.0, 6 / 8)
    copy = referee.score(Says(BRIGHTEST.tolist()))
    assert (copy.accuracy, copy.fidelity) == (6 / 8, 1.0)
    along = referee.score_checkpoint(Says(LABELS.tolist()))
    assert (along.accuracy, along.fidelity) == (6 / 8, 6 / 8)
    constant = referee.score(Says([0] * 8))
    assert (constant.accuracy, constant.fidelity) == (3 / 8, 3 / 8)
