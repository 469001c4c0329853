"""QUEEN: whom it records, whom it answers in reverse, and what that does to a clone."""

import copy
import math

import pytest
import torch

from envs.defences.queen import Queen, away, reversed_answer
from envs.defences.query_coverage import Coverage, query_sensitivity, region_of
from envs.errors import UnknownName
from envs.game.clocks import make_clock
from envs.seeding import Streams
from envs.training.feature_map import plane_map, supervised_contrast, train_map

BRIEF = {"shadows": 3, "asked": 2, "map_epochs": 30}


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_the_published_examples_of_a_reversed_answer():
    y, p = rows([0.8, 0.15, 0.05], [0.9, 0.06, 0.04]), rows([0.4, 0.35, 0.25], [0.2, 0.5, 0.3])
    served = reversed_answer(y, p)
    torch.testing.assert_close(served[0], torch.tensor([0.0, 0.55, 0.45]).double())
    torch.testing.assert_close(served[1], torch.tensor([0.0, 0.94, 0.56]).double() / 1.5)
    assert served.argmax(1).tolist() == [1, 1]


def test_a_reversed_answer_turns_the_gradient_of_the_clone_round():
    """Where 2p - y is a posterior itself; else as nearly as the simplex allows."""
    y, p = rows([0.5, 0.3, 0.2]), rows([0.4, 0.35, 0.25])

    def gradient(answer):
        logits = p.log().requires_grad_()
        loss = -(answer * logits.log_softmax(1)).sum()
        return torch.autograd.grad(loss, logits)[0]

    torch.testing.assert_close(gradient(reversed_answer(y, p)), -gradient(y))
    y = rows([0.9, 0.06, 0.04])
    cosine = torch.cosine_similarity(gradient(reversed_answer(y, p)), gradient(y))
    assert float(cosine) < -0.9


def test_no_answer_on_the_simplex_is_nearer_in_angle():
    torch.manual_seed(0)
    y, p = (torch.rand(200, 4, dtype=torch.float64).softmax(1) ** 3 for _ in range(2))
    y, p = y / y.sum(1, keepdim=True), p / p.sum(1, keepdim=True)
    best = torch.cosine_similarity(reversed_answer(y, p), 2 * p - y)
    for _ in range(50):
        other = torch.rand(200, 4, dtype=torch.float64) ** 4
        assert (torch.cosine_similarity(other, 2 * p - y) <= best + 1e-12).all()


def test_the_sensitivity_of_a_query_falls_from_the_centre_outwards():
    found = query_sensitivity(torch.tensor([0.0, 1.0, 2.0]).double(), torch.tensor(1.0), 1.0)
    torch.testing.assert_close(found, torch.tensor([0.921, 0.5, 0.079]).double(), atol=5e-4, rtol=0)


def coverage(limit, spacing=0.1):
    """Two classes at (0, 0) and (9, 0), with regions of radius 1 and 2."""
    centres, radii = rows([0.0, 0.0], [9.0, 0.0]), torch.tensor([1.0, 2.0]).double()
    return Coverage(centres, radii, spacing=spacing, limit=limit, alpha=1.0)


CENTRE = 0.5 * math.erfc(-1)
"""The sensitivity of a query at a centre."""


def test_only_new_queries_within_the_region_count():
    account = coverage(limit=9.0)
    asked = rows([0.0, 0.0], [0.05, 0.0], [1.0, 0.0], [9.0, 0.0], [0.0, 0.0])
    labels = torch.tensor([0, 0, 0, 1, 1])
    assert not account.take(asked, labels).any()
    assert account.recorded == [1, 1]  # the second repeats, the third and the last lie outside
    expected = torch.tensor([CENTRE**2 * 0.01, CENTRE**2 * 0.0025]).double()
    torch.testing.assert_close(account.covered, expected)


def test_what_is_new_is_reversed_once_the_limit_is_passed_and_repeats_are_not():
    account = coverage(limit=1.5 * CENTRE**2 * 0.01)
    near = [[0.2 * column, 0.0] for column in (0, 1, -1, 2)]  # three of them until the limit
    first = account.take(rows(*near), torch.zeros(4, dtype=torch.int64))
    recorded = account.recorded[0]
    assert first.tolist() == [False] * recorded + [True] * (4 - recorded)
    assert 1 < recorded < 4
    again = account.take(rows(*near), torch.zeros(4, dtype=torch.int64))
    assert torch.equal(again, first)
    assert account.recorded[0] == recorded  # what is reversed is not recorded
    # the other class has a sum of its own
    assert not account.take(rows([9.0, 0.0]), torch.tensor([1])).any()


def test_how_queries_are_cut_into_requests_does_not_matter():
    torch.manual_seed(1)
    asked, labels = 0.4 * torch.randn(300, 2).double(), torch.randint(2, (300,))
    asked[:, 0] += 9 * labels
    whole = coverage(limit=0.05)
    at_once = whole.take(asked, labels)
    parts = coverage(limit=0.05)
    one_by_one = torch.cat(
        [parts.take(a, b) for a, b in zip(asked.split(7), labels.split(7), strict=True)]
    )
    assert torch.equal(at_once, one_by_one)
    assert 20 < int(at_once.sum()) < 280
    torch.testing.assert_close(parts.covered, whole.covered)


def test_a_class_without_images_has_no_region():
    centres, radii = region_of(rows([1.0, 0.0], [3.0, 0.0]), torch.tensor([0, 0]), 2)
    assert centres[0].tolist() == [2.0, 0.0]
    assert float(radii[0]) == 1.0
    account = Coverage(centres, radii, spacing=0.1, limit=0.0, alpha=1.0)
    assert account.take(rows([0.0, 0.0]), torch.tensor([1])).tolist() == [False]
    ahead = away(torch.zeros(1, 2), centres.float())
    assert ahead.tolist() == [[1.0, 0.0]]


def hardened(world, **params):
    defence = Queen(**{**BRIEF, **params})
    return defence, defence.harden(world.victim(), world.kit())


def ask(defence, victim, images, account):
    with torch.no_grad():
        return defence.answer(
            victim, images, clock=make_clock("none", Streams(0)),
            generator=Streams(0).torch("defence"), account=account,
        ).posteriors  # fmt: skip


def test_an_account_pays_for_what_it_asked_alone(digits_world):
    defence, victim = hardened(digits_world, limit=0.001)
    digits, clean = digits_world.images[:32], digits_world.clean()[:32]
    first = ask(defence, victim, digits, account=7)
    spent = ask(defence, victim, digits_world.data.test.images(), account=7)
    assert spent.shape == (200, 10)
    turned = spent.argmax(1) != digits_world.clean(digits_world.data.test.images()).argmax(1)
    assert int(turned.sum()) > 10  # digits lie within the regions
    other = ask(defence, victim, digits, account=8)
    assert torch.equal(other, first)
    assert (first.argmax(1) == clean.argmax(1)).float().mean() > 0.5


def test_answers_that_are_not_reversed_move_and_keep_the_label(digits_world):
    defence, victim = hardened(digits_world, limit=1e9, step=0.2)
    clean = digits_world.clean()
    served = digits_world.serve(defence, victim).posteriors
    assert torch.equal(served.argmax(1), clean.argmax(1))
    moved = (served - clean).abs().sum(1)
    assert float(moved.mean()) > 0.02
    still, _ = hardened(digits_world, limit=1e9, steps=0)
    unmoved = digits_world.serve(still, victim).posteriors
    torch.testing.assert_close(unmoved, clean, atol=1e-5, rtol=0)


def test_a_copy_goes_on_with_what_was_asked(digits_world):
    """Saved in the middle of a game it answers as the one that was not."""
    defence, victim = hardened(digits_world, limit=0.001)
    images = digits_world.data.test.images()
    digits_world.serve(defence, victim, images[:100])
    other = copy.deepcopy(defence)
    answers = [digits_world.serve(one, victim, images[100:]).posteriors for one in (defence, other)]
    assert torch.equal(*answers)


def test_every_network_that_runs_is_counted(digits_world):
    defence, victim = hardened(digits_world, steps=0)
    whole = victim.profile.macs[-1]
    assert 3 * whole <= defence.overhead_macs <= 3.1 * whole  # the features, and two shadows
    cheap, _ = hardened(digits_world, steps=0, shadow_network="mlp-small")
    assert whole <= cheap.overhead_macs < 2 * whole


def test_widths_of_the_map_are_the_published_ones_at_512_features():
    layers = [part for part in plane_map(512, torch.Generator()) if hasattr(part, "weight")]
    assert [layer.out_features for layer in layers] == [128, 32, 8, 2]


def test_contrast_by_hand():
    """Two of one class at z = (1, 0), one of another at (0, 1); likeness 1/0.07 and 0."""
    points, labels = torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]]), torch.tensor([0, 0, 1])
    pair = math.log1p(math.exp(-1 / 0.07))
    assert float(supervised_contrast(points, labels)) == pytest.approx(2 * pair / 3, abs=1e-6)
    apart = torch.tensor([[1.0, 0], [0, 1.0], [1.0, 0]])
    expected = (1 / 0.07 + math.log(2)) / 3
    assert float(supervised_contrast(apart, labels)) == pytest.approx(expected, abs=1e-5)


def test_the_map_brings_classes_together():
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(50)
    features = torch.eye(4)[labels] + 0.1 * torch.randn(200, 4)
    network = plane_map(4, torch.Generator().manual_seed(0))
    before = supervised_contrast(network(features), labels).item()
    chance = torch.Generator().manual_seed(0)
    train_map(network, features, labels, epochs=60, batch=64, generator=chance)
    assert supervised_contrast(network(features), labels).item() < before - 0.5


def test_odd_values_are_told():
    with pytest.raises(ValueError, match="1 to 2 of the shadows to be asked, got 3"):
        Queen(shadows=2, asked=3)
    with pytest.raises(ValueError, match="spacing, reach and alpha above 0"):
        Queen(spacing=0.0)
    with pytest.raises(ValueError, match="limit and step of at least 0"):
        Queen(limit=-1.0)
    with pytest.raises(UnknownName, match="mlp-small"):
        Queen(shadow_network="mlp-smal")
