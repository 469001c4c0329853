"""The detectors that know what an owner knows: their arithmetic by hand, and whom they flag."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from agents.defenders import prada
from agents.defenders.account_clusters import AccountClusters
from agents.defenders.feature_gaussian import FeatureGaussian, Gaussians
from agents.defenders.flagging import limit_of
from agents.defenders.mean_embeddings import History, Space, components
from agents.defenders.owners_traffic import OwnersTraffic
from agents.defenders.prada import ClassSet, Prada, non_normality
from agents.defenders.seat import RADIUS, Encoder, Seat, SimilarPairs, adversarial, triple_loss
from arena.conformance import check_defender, defender_kit
from envs.data.images import joined
from envs.errors import PlayerError
from envs.game.rounds import Countermeasure, View
from envs.seeding import Streams

SHAPE = (1, 8, 8)
SMALL = {"calibration": 25, "queries": 150}
DETECTORS = {
    "prada": partial(Prada, **SMALL),
    "seat": partial(Seat, steps=10, perturbations=2, batch=32, **SMALL),
    "feature-gaussian": partial(FeatureGaussian, **SMALL),
    "account-clusters": partial(AccountClusters, every=100, **SMALL),
}


@pytest.fixture(scope="module")
def kit():
    small = defender_kit(image_shape=SHAPE)
    return replace(small, validation=joined([small.validation, small.train]))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(one, marks=pytest.mark.slow) if one in ("prada", "seat") else one
        for one in DETECTORS
    ],
)
def test_the_detectors_keep_the_rules(name):
    make = partial(DETECTORS[name], calibration=3, queries=40)
    assert [one for one in check_defender(make, image_shape=SHAPE) if not one.passed] == []


# by hand ----------------------------------------------------------------------------------------


def test_a_set_of_prada_grows_as_in_the_paper():
    """Scalar images 0, 4, 4.5, 9 and 9.1: the last lies within the threshold of 2.25 - 2.0156."""
    grown = ClassSet()
    for value in (0.0, 4.0, 4.5, 9.0):
        grown.add(torch.tensor([value], dtype=torch.float64))
    assert grown.threshold == pytest.approx(0.2344, abs=1e-4)
    grown.add(torch.tensor([9.1], dtype=torch.float64))
    assert grown.distances == pytest.approx([4, 0.5, 4.5, 0.1])
    grown.add(torch.tensor([9.2], dtype=torch.float64))
    assert grown.distances[-1] == pytest.approx(0.2)  # to 9, because 9.1 did not join


def test_prada_tests_the_latest_distances_of_all_classes_together(monkeypatch):
    monkeypatch.setattr(prada, "MOST", 40)
    images = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[::2] *= 0.1  # the first class lies within 0.8 of itself, the second does not
    labels = torch.eye(2).repeat(100, 1)
    score = Prada().new_score()
    score.add(SimpleNamespace(images=images, features=lambda _: labels))
    assert sum(value < 0.8 for value in score.values) == 20
    assert len(score.values) == 40


def test_w_tells_a_normal_sample_from_two_heaps():
    ranks = (torch.arange(1, 201, dtype=torch.float64) - 0.375) / 200.25
    normal = torch.special.ndtri(ranks).tolist()
    heaps = [heap + 0.01 * value for heap in (1, 9) for value in normal[::2]]
    grid = torch.linspace(0, 1, 200).tolist()
    found = [1 - non_normality(sample) for sample in (normal, heaps, grid)]
    assert found == pytest.approx([0.9995, 0.636, 0.955], abs=4e-3)
    assert non_normality(normal[:100]) == 0  # too few


def test_the_loss_of_seat_brings_copies_together_and_others_apart():
    scale = 10**-0.5  # distances are ten times the squared ones
    codes, copies = torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]) * scale
    for other, loss in (((3.0, 0.0), 2.0), ((4.0, 0.0), 1.0)):
        others = torch.tensor([other]) * scale
        assert float(triple_loss(codes, copies, others)) == pytest.approx(loss, abs=1e-5)


class Given(Encoder):
    """Reads codes off the first two pixels."""

    def encode(self, images):
        return images.flatten(1)[:, :2] / 10**0.5


def test_similar_queries_are_counted_once_each_and_repeats_are_none():
    def request(*points):
        images = torch.zeros(len(points), *SHAPE)
        images.view(len(points), -1)[:, :2] = torch.tensor(points)
        return View(images, 1, 0)

    pairs = SimilarPairs(Given(nn.Identity()), 0.04)
    assert pairs.add(request((0.0, 0.0), (0.1, 0.0), (5.0, 5.0))) == 1
    assert pairs.add(request((0.05, 0.0))) == 2
    assert pairs.add(request((0.05, 0.0), (5.0, 5.0))) == 2


def test_an_adversarial_copy_lies_further_off_than_chance_within_its_radius(kit):
    encoder = Encoder(kit.victim.network())
    images = kit.train.images(slice(0, 16))
    copies = adversarial(encoder, images, 5, Streams(0).torch("copies"))
    assert float((copies - images).abs().max()) <= RADIUS + 1e-6
    signs = torch.rand(images.shape, generator=Streams(0).torch("signs")).round() * 2 - 1
    by_chance = (images + RADIUS * signs).clamp(0, 1)
    codes = encoder.encode(images)
    found = [float((encoder.encode(one) - codes).square().sum()) for one in (copies, by_chance)]
    assert found[0] > 2 * found[1]


def test_a_squared_mahalanobis_distance_counts_in_deviations_of_the_class():
    points = torch.tensor([[-2.0, 1.0], [2.0, -1.0], [-2.0, -1.0], [2.0, 1.0]])
    features = torch.cat([points, points + 10])
    labels = torch.tensor([0] * 4 + [1] * 4)
    gaussians = Gaussians(features, labels, 2, shrinkage=0.0)
    asked = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [10.0, 12.0], [14.0, 10.0]])
    found = gaussians.distances(asked, torch.tensor([0, 0, 0, 1, 1]))
    assert found.tolist() == pytest.approx([0, 1, 4, 4, 4], rel=1e-4)


def test_mmd_is_0_of_equal_accounts_on_average_and_grows_with_their_difference():
    """Embeddings are one-hot: a asks 0, 1 and 2, b asks 0 three times, c asks 2, 1 and 0."""
    rows = torch.eye(3, dtype=torch.float64)
    a, b, c = (History.of(rows[list(asked)]) for asked in ((0, 1, 2), (0, 0, 0), (2, 1, 0)))
    between = Space(a).between([a, b, c])
    # unbiased: 0 + 1 - 2/3 and 0 + 0 - 2/3, times 9/6
    assert between[0, 1] == pytest.approx(0.5)
    assert between[0, 2] == pytest.approx(-1.0)
    assert Space(a).from_owner([b, c]).tolist() == pytest.approx([0.5, -1.0])
    both = History.joined([a, b])
    assert (both.count, both.total.tolist()) == (6, [4, 1, 1])


def test_components_are_found_whole():
    linked = np.eye(5, dtype=bool)
    linked[0, 3] = linked[3, 0] = linked[3, 4] = linked[4, 3] = True
    assert components(linked) == [[0, 3, 4], [1], [2]]
    assert components(np.zeros((0, 0), dtype=bool)) == []


@pytest.mark.parametrize(("share", "passed"), [(0.0, 0), (0.01, 1), (0.019, 1), (0.5, 50)])
def test_a_limit_is_passed_by_at_most_the_share_of_accounts(share, passed):
    values = torch.randperm(100, generator=torch.Generator().manual_seed(0)).tolist()
    limit = limit_of(values, share)
    assert sum(value > limit for value in values) == passed


# whom they flag ---------------------------------------------------------------------------------


def test_the_owners_accounts_ask_no_image_twice(kit):
    traffic = OwnersTraffic(kit, 60, times=10)
    assert len(traffic.images) == 600 > len(kit.validation)
    (account,) = traffic.accounts(1)
    asked = torch.cat([view.images for view in account])
    assert len(asked) == len(asked.flatten(1).unique(dim=0)) == 60
    assert torch.equal(account[0].features(), traffic.features()[account[0]._index])


def probes(count, seed):
    """Images of noise, each with its copy a finite difference away."""
    drawn = torch.rand(count // 2, *SHAPE, generator=Streams(seed).torch("probes"))
    return torch.stack([drawn, (drawn + 1e-3).clamp_max(1)], 1).flatten(0, 1)


@pytest.mark.parametrize("name", DETECTORS)
def test_probing_accounts_are_flagged_and_owners_like_ones_are_not(kit, name):
    detector = DETECTORS[name](flagged={"cut_off": True})
    detector.begin(kit)
    chance = Streams(1).torch("benign")
    traffic = OwnersTraffic(replace(kit, generator=chance), 150, times=0)
    benign = [torch.cat([view.images for view in account]) for account in traffic.accounts(4)]
    accounts = [*benign, *(probes(150, seed) for seed in range(4))]
    decided = {}
    for start in range(0, 150, 30):
        for client, asked in enumerate(accounts):
            view = View(asked[start : start + 30], client, 0, victim=kit.victim)
            decided[client] = detector.act(view)
    assert set(detector.flags) == {4, 5, 6, 7}
    answers = [decided[client] for client in range(8)]
    assert answers[:4] == [Countermeasure(0, 0.0)] * 4
    if name != "account-clusters":  # which looks when it is due, and answers from then on
        assert answers[4:] == [Countermeasure(cut_off=True)] * 4
    assert {note.data["client"] for note in detector.notes()} == {4, 5, 6, 7}


def test_accounts_and_their_flags_are_remembered_up_to_most_clients(kit):
    detector = FeatureGaussian(limit=-1.0, most_clients=2)
    detector.begin(kit)
    for client in (1, 2, 3, 1):  # 1 was forgotten, and is flagged anew
        detector.act(View(probes(4, client), client, 0, victim=kit.victim))
    assert set(detector.flags) == {3, 1}
    assert [(note.data["client"], note.data["asked"]) for note in detector.notes()] == [
        (1, 4), (2, 4), (3, 4), (1, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Prada(false_alarms=1.0), "false_alarms from 0 to below 1"),
        (lambda: Prada(calibration=0), "at least 1"),
        (lambda: Seat(batch=1), "batch >= 2"),
        (lambda: FeatureGaussian(window=0), "window of at least 1"),
        (lambda: AccountClusters(least=1), "at least 2"),
        (lambda: AccountClusters(differs=1.0), "expected differs from 0"),
        (lambda: Prada(flagged={"refuse": 1}), "flagged: expected refuse as true or false"),
        (lambda: Prada(calm={"rate": 0}), "calm: expected a rate"),
        (lambda: Prada(calm={"cutoff": True}), "calm: unknown key 'cutoff'"),
    ],
)
def test_parameters_out_of_range_are_refused_in_a_line(make, line):
    with pytest.raises(PlayerError, match=line):
        make()
