"""The referee measures the service that defences give, on three classes worked out by hand."""

import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from agents.defenders.schedule import Schedule
from agents.defenders.static import Static
from arena.evaluation.benign_service import ServiceMeasurement
from arena.evaluation.referee import Referee
from envs.data.images import ImageSet
from envs.defences.base import Defence, DeployedDefence
from envs.game.clients import ClientNumbers
from envs.game.rounds import AnsweredRequest, Countermeasure, Round
from envs.seeding import Streams
from envs.victim.victim import VictimAnswer

# the victim answers 0.7 for the brightest of three pixels and 0.15 for the others
BRIGHTEST = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0])
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 1])  # the victim is right on six of eight
NAMES = ("a", "b", "c")


class Brightest:
    """A victim of two exits."""

    num_exits, num_classes, device, network = 2, 3, torch.device("cpu"), nn.Identity()

    is_remote = False

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


class Noisy(Defence):
    """Adds noise that is drawn anew for each answer."""

    epsilon = 2.0

    def perturb_posteriors(self, posteriors, serving):
        noise = torch.rand(posteriors.shape, generator=serving.generator)
        return nn.functional.normalize(posteriors + noise, p=1, dim=1)


@pytest.fixture
def test_set():
    pixels = 255 * nn.functional.one_hot(BRIGHTEST, 3).to(torch.uint8).view(8, 1, 1, 3)
    return ImageSet(pixels, LABELS, 3, "made up", NAMES)


@pytest.fixture
def referee(test_set):
    # at checkpoints the victim is right on all eight
    return Referee(replace(test_set, labels=BRIGHTEST), test_set, Brightest())


def measurement(referee, defence, defender, **given):
    return ServiceMeasurement(
        referee.test,
        referee.posteriors,
        [DeployedDefence("d", defence, Brightest())],
        defender,
        streams=Streams(0),
        labels="soft",
        **given,
    )


def asked(count):
    """An attacker's request of so many images, answered at the only exit."""
    images, exits = torch.zeros(count, 1, 1, 3), torch.zeros(count, dtype=torch.int64)
    return AnsweredRequest(images, 1, Countermeasure(), torch.zeros(count, 3), exits)


def served(referee, defence, defender=None, rounds=(), clients=0):
    """Measure the service in an episode of so many attack images a round, of 100 in all."""
    measured = measurement(referee, defence, defender or Static(), budget=100, clients=clients)
    for number, count in enumerate(rounds):
        attack = asked(count)
        measured.on_round(Round(number, attack, (), None))
    return measured.read()


def test_without_a_defence_the_service_is_the_victims(referee):
    found = served(referee, Defence())
    assert referee.victim_accuracy == 6 / 8
    assert (found.accuracy, found.agreement) == (6 / 8, 1.0)
    assert (found.distortion_mean, found.distortion_p95) == (0.0, 0.0)


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


@pytest.fixture
def by_pairs(monkeypatch):
    """Let a request of the referee's hold two images."""
    monkeypatch.setattr("arena.evaluation.benign_service._REQUEST", 2)


def test_the_service_is_measured_along_the_whole_episode(referee, by_pairs):
    """Four requests of two images are due at 30, 50, 80 and 100 of 100 attack images."""
    late = Schedule([{"from": 0}, {"from": 101, "strength": 0.0}])
    found = served(referee, Next(), late, [10] * 10)
    assert (found.agreement, found.distortion_mean) == (0.0, pytest.approx(1.1))
    half = Schedule([{"from": 0}, {"from": 60, "strength": 0.0}])
    found = served(referee, Next(), half, [10] * 10)
    assert (found.agreement, found.distortion_mean) == (0.5, pytest.approx(1.1 / 2))
    assert found.distortion_p95 == pytest.approx(1.1)
    # an attacker that stops early: what is left is asked as the episode stands then
    assert served(referee, Next(), half, [10] * 5).agreement == 0.0


VIEWS = []


class Watching:
    """A defender that keeps what it saw where its copies keep it too, and counts for itself."""

    seen = 0

    def act(self, view):
        VIEWS.append((self.seen, view))
        return Countermeasure()

    def learn(self, served):
        self.seen += 1


class Counts(Defence):
    """Serves another class after the first two requests."""

    epsilon = 2.0
    served = 0

    def perturb_posteriors(self, posteriors, serving):
        self.served += 1
        return posteriors.roll(int(self.served > 2), 1)


def test_the_referee_asks_as_the_benign_users_do_and_leaves_no_trace(referee, by_pairs):
    VIEWS.clear()
    defender, defence = Watching(), Counts()
    found = served(referee, defence, defender, [50, 50], clients=3)
    numbers = [ClientNumbers(Streams(0)).benign(client) for client in (1, 2, 3)]
    assert [view.client for _, view in VIEWS] == [*numbers, numbers[0]]
    assert [view.answered for _, view in VIEWS] == [50, 52, 100, 102]
    assert [seen for seen, _ in VIEWS] == [0, 1, 0, 1]  # each look copies it anew
    assert (defender.seen, defence.served, found.agreement) == (0, 0, 1.0)


def test_answers_to_benign_users_count_for_what_the_defender_sees(referee, by_pairs):
    VIEWS.clear()
    measured = measurement(referee, Counts(), Watching(), budget=50, clients=1)
    attack, benign = (asked(count) for count in (50, 3))
    measured.on_round(Round(0, attack, (benign, benign), None))
    assert [view.answered for _, view in VIEWS] == [56, 58, 60, 62]


class Locked(Counts):
    """Holds what has no copy."""

    def __init__(self):
        self.lock = threading.Lock()

    def perturb_posteriors(self, posteriors, serving):
        with self.lock:
            return super().perturb_posteriors(posteriors, serving)


def test_a_defence_that_holds_a_lock_is_asked_like_any_other(referee, by_pairs):
    locked, counts = Locked(), Counts()
    assert served(referee, locked, rounds=[50, 50]) == served(referee, counts, rounds=[50, 50])
    assert locked.served == 0


def test_where_nobody_else_asks_the_referee_is_one_more_client(referee):
    VIEWS.clear()
    served(referee, Defence(), Watching())
    assert {view.client for _, view in VIEWS} == {ClientNumbers(Streams(0)).referee}


def test_a_measurement_that_is_restored_goes_on_where_it_stood(referee, by_pairs):
    def begin():
        return measurement(referee, Noisy(), Static(), budget=4, clients=0)

    attack = asked(2)
    whole, other = begin(), begin()
    whole.on_round(Round(0, attack, (), None))
    other.restore(whole.state(), Static())
    assert other.read() == whole.read() == begin().read()


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
