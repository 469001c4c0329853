"""ModelGuard: the exact programme, and the quantiser."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from envs.defences.codebook import Codebook, cluster, distances
from envs.defences.modelguard import (
    ModelGuardS,
    ModelGuardW,
    _rest,
    costs,
    least_expected,
    minimum,
)
from envs.defences.simplex import distance

TIGHT = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def posteriors(count, classes, concentration=0.5, seed=0):
    torch.manual_seed(seed)
    alpha = torch.full((classes,), concentration, dtype=torch.float64)
    return torch.distributions.Dirichlet(alpha).sample((count,))


def solve(clean, epsilon, margin):
    """Minimise sum x_k log y_k with slack variables for |x - y|, keeping the label's lead."""
    classes, label = len(clean), int(clean.argmax())
    eye, zeros = np.eye(classes), np.zeros((classes, classes))
    lead = np.delete(eye - eye[label], label, 0)  # x_k - x_label
    rows = np.block(
        [
            [eye, -eye],
            [-eye, -eye],
            [np.zeros((1, classes)), np.ones((1, classes))],
            [lead, zeros[:-1]],
        ]
    )
    limits = np.concatenate((clean, -clean, [epsilon], np.full(classes - 1, -margin)))
    cost = costs(torch.from_numpy(clean)).numpy()
    found = linprog(
        np.concatenate((cost, np.zeros(classes))),
        A_ub=rows,
        b_ub=limits,
        A_eq=[np.concatenate((np.ones(classes), np.zeros(classes)))],
        b_eq=[1.0],
        bounds=[(0, None)] * (2 * classes),
        options=TIGHT,
    )
    assert found.status == 0, found.message
    return found.fun


@pytest.mark.parametrize("classes", [2, 3, 10, 25])
@pytest.mark.parametrize("epsilon", [0.05, 0.4, 1.0, 2.0])
def test_the_batched_solution_is_that_of_the_linear_programme(classes, epsilon):
    margin = 1e-4
    for concentration in (0.2, 1.0, 5.0):
        clean = posteriors(4, classes, concentration, seed=classes)
        served = least_expected(clean, epsilon, margin)
        values = (served * costs(clean)).sum(1)
        for y, x, value in zip(clean, served, values, strict=True):
            lead = y.sort(descending=True).values
            assert lead[0] - lead[1] >= margin, "a case that is no case"
            assert float(value) == pytest.approx(solve(y.numpy(), epsilon, margin), abs=1e-8)
            assert abs(float(x.sum()) - 1) < 1e-12
            assert float(x.min()) >= -1e-15
            assert float((x - y).abs().sum()) <= epsilon + 1e-11
            others = x.clone()
            others[y.argmax()] = -1
            assert float(x[y.argmax()] - others.max()) >= margin - 1e-11


def test_raising_the_label_can_be_worth_it():
    """With y1 y3 < y2^2, class 2 gives to both others."""
    clean = torch.tensor([[0.40, 0.35, 0.25]]).double()
    served = least_expected(clean, 2.0)
    assert float(served[0, 0]) > 0.40
    assert float(served[0, 2]) > 0.40
    assert float(served[0, 1]) < 1e-9


def test_a_label_without_lead_is_served_as_it_is():
    clean = torch.tensor([[0.45, 0.45, 0.1]]).double()
    assert torch.equal(least_expected(clean, 1.0), clean)


def test_without_the_label_the_least_likely_class_gets_all_the_budget(digits_world):
    defence = ModelGuardW(epsilon=1.0, preserve_top1="off")
    victim = defence.harden(digits_world.victim(), digits_world.kit())
    clean = digits_world.clean()
    served = digits_world.serve(defence, victim).posteriors
    least = clean.argmin(1, keepdim=True)
    torch.testing.assert_close(served.gather(1, least), clean.gather(1, least) + 0.5)


def test_golden_section_finds_kinks():
    kink = torch.rand(50, 1, dtype=torch.float64)
    low, high = torch.zeros_like(kink), torch.ones_like(kink)
    found = minimum(lambda t: (t - kink).abs() + 0.3 * (kink - t).clamp_min(0), low, high)
    torch.testing.assert_close(found, kink, atol=1e-11, rtol=0)


def test_clusters_reach_the_radius_and_keep_their_label():
    answers = posteriors(600, 10, 0.3)
    answers = answers[answers.argmax(1) == 4]
    for radius in (0.2, 0.6, 1.2):
        centres = cluster(answers, radius)
        assert float(distances(answers, centres).amin(1).max()) <= radius
        assert (centres.argmax(1) == 4).all()
        torch.testing.assert_close(centres.sum(1), torch.ones(len(centres)).double())
    assert len(cluster(answers, 0.2)) > len(cluster(answers, 1.2))


def test_an_answer_gets_the_first_prototype_near_enough_or_becomes_one():
    first = torch.tensor([[0.9, 0.1, 0.0], [0.7, 0.3, 0.0]]).double()
    book = Codebook([first, first[:0], first[:0]])
    asked = torch.tensor(
        [
            [0.75, 0.25, 0.0],  # nearer to the second, but the first is near enough
            [0.6, 0.0, 0.4],  # near none: becomes one
            [0.6, 0.05, 0.35],  # near that
            [0.1, 0.8, 0.1],  # another label
        ]
    ).double()
    served = book.quantise(asked, 0.5, grow=True)
    expected = torch.stack((first[0], asked[1], asked[1], asked[3]))
    assert torch.equal(served, expected)
    assert book.sizes == (3, 1, 0)


def test_prototypes_grow_alike_however_queries_are_split():
    answers = posteriors(300, 5, 0.5)
    books = [Codebook([answers[:0]] * 5) for _ in range(2)]
    whole = books[0].quantise(answers, 0.3, grow=True)
    parts = [books[1].quantise(part, 0.3, grow=True) for part in answers.split([1, 50, 99, 150])]
    assert torch.equal(whole, torch.cat(parts))
    assert books[0].sizes == books[1].sizes
    assert (distance(whole, answers) <= 0.3).all()


def test_repeats_get_the_prototype_they_got_before():
    answers = posteriors(300, 5, 0.5)
    book = Codebook([answers[:0]] * 5)
    first = book.quantise(answers, 0.3, grow=True)
    assert torch.equal(book.quantise(answers, 0.3, grow=True), first)


def test_without_growth_answers_far_from_all_are_moved_and_the_book_stays():
    prototypes = torch.tensor([[1.0, 0.0, 0.0]]).double()
    book = Codebook([prototypes, prototypes[:0], prototypes[:0]])
    asked = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.7, 0.1]]).double()
    served = book.quantise(asked, 0.4, grow=False)
    expected = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.7, 0.1]]).double()
    torch.testing.assert_close(served, expected)
    assert book.sizes == (1, 0, 0)


def test_few_answers_are_served_for_many_queries(digits_world):
    defence = ModelGuardS(epsilon=1.0)
    victim = defence.harden(digits_world.victim(), digits_world.kit())
    images = digits_world.data.test.images()
    served = digits_world.serve(defence, victim, images).posteriors
    clean = digits_world.clean(images)
    assert len(served.unique(dim=0)) < len(clean.unique(dim=0)) / 4


@pytest.mark.parametrize("epsilon", [0.02, 0.5])
@pytest.mark.parametrize("level", [0.45, 0.5, 0.55, 0.7])
def test_the_others_hold_what_the_label_leaves(level, epsilon):
    label, others = torch.tensor([[0.5]]).double(), torch.tensor([[0.1, 0.4]]).double()
    rest = _rest(torch.tensor([[level]]).double(), label, others, epsilon=epsilon, margin=0.0)
    assert rest.sum().item() == pytest.approx(1 - level)
    assert bool((rest >= 0).all())
