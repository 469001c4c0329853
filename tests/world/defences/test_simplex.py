"""Arithmetic on the simplex, and the shared rule that keeps labels."""

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from envs.defences.label_preserving import keep_top1
from envs.defences.simplex import (
    distance,
    normalised,
    onto_simplex,
    redirect,
    towards,
    within_budget,
)


def posteriors(count, classes, concentration=0.5, seed=0):
    torch.manual_seed(seed)
    alpha = torch.full((classes,), concentration, dtype=torch.float64)
    return torch.distributions.Dirichlet(alpha).sample((count,))


def solve(worth, clean, epsilon):
    """Maximise worth.x on the simplex within the L1 budget, with slack variables for |x - y|."""
    classes = len(clean)
    eye = np.eye(classes)
    rows = np.block([[eye, -eye], [-eye, -eye], [np.zeros((1, classes)), np.ones((1, classes))]])
    found = linprog(
        np.concatenate((-worth, np.zeros(classes))),
        A_ub=rows,
        b_ub=np.concatenate((clean, -clean, [epsilon])),
        A_eq=[np.concatenate((np.ones(classes), np.zeros(classes)))],
        b_eq=[1.0],
        bounds=[(0, None)] * (2 * classes),
    )
    assert found.status == 0
    return -found.fun


def test_redirection_is_the_optimum_of_the_linear_programme_on_50_cases():
    rng = np.random.default_rng(0)
    for case in range(50):
        classes, epsilon = int(rng.integers(2, 12)), float(rng.uniform(0, 2))
        clean = posteriors(1, classes, rng.choice([0.1, 0.5, 2.0]), seed=case)
        worth = torch.from_numpy(rng.standard_normal((1, classes)))
        served = redirect(clean, worth, epsilon)
        assert served.min() >= -1e-15
        assert abs(served.sum() - 1) < 1e-12
        assert distance(served, clean) <= epsilon + 1e-12
        best = solve(worth[0].numpy(), clean[0].numpy(), epsilon)
        assert float((worth * served).sum()) == pytest.approx(best, abs=1e-6)


def test_redirection_without_budget_is_the_identity():
    clean = posteriors(20, 7)
    assert torch.equal(redirect(clean, torch.randn(20, 7).double(), 0.0), clean)


def test_redirection_by_hand():
    clean = torch.tensor([[0.6, 0.3, 0.1]]).double()
    worth = torch.tensor([[1.0, -2.0, 5.0]]).double()
    # class 1 gives its 0.3 first, class 0 the remaining 0.2
    expected = torch.tensor([[0.4, 0.0, 0.6]]).double()
    torch.testing.assert_close(redirect(clean, worth, 1.0), expected)


def test_a_row_with_nothing_left_is_replaced():
    rows = torch.tensor([[-1.0, 0.0], [3.0, 1.0]]).double()
    other = torch.tensor([[0.9, 0.1], [0.5, 0.5]]).double()
    expected = torch.tensor([[0.9, 0.1], [0.75, 0.25]]).double()
    assert torch.equal(onto_simplex(rows, other), expected)


def test_rows_beyond_the_budget_end_on_it_and_others_stay_to_the_bit():
    clean, served = posteriors(50, 10), posteriors(50, 10, seed=1)
    pulled = within_budget(served, clean, 0.8)
    inside = distance(served, clean) <= 0.8
    assert inside.any()
    assert not inside.all()
    assert torch.equal(pulled[inside], served[inside])
    torch.testing.assert_close(
        distance(pulled, clean)[~inside], torch.full((int((~inside).sum()),), 0.8).double()
    )


def test_the_way_to_a_vertex_spends_the_budget_unless_the_vertex_is_nearer():
    clean = torch.tensor([[0.7, 0.3], [0.1, 0.9]]).double()
    vertex = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).double()
    served = towards(clean, vertex, 0.5)
    expected = torch.tensor([[0.45, 0.55], [0.0, 1.0]]).double()
    torch.testing.assert_close(served, expected)


def test_the_label_is_kept_by_the_largest_share_that_keeps_it():
    clean = torch.tensor([[0.6, 0.4, 0.0]]).double()
    served = torch.tensor([[0.2, 0.8, 0.0]]).double()
    kept = keep_top1(served, clean, 1e-4)
    # leads: 0.2 before, -0.6 after; b = (0.2 - 1e-4) / 0.8
    share = (0.2 - 1e-4) / 0.8
    torch.testing.assert_close(kept, clean + share * (served - clean))
    assert float(kept[0, 0] - kept[0, 1]) == pytest.approx(1e-4, abs=1e-12)


def test_near_ties_are_served_clean_and_safe_answers_as_computed():
    clean = torch.tensor([[0.50004, 0.49996], [0.9, 0.1]]).double()
    served = torch.tensor([[0.1, 0.9], [0.6, 0.4]]).double()
    kept = keep_top1(served, clean)
    assert torch.equal(kept[0], clean[0])
    assert torch.equal(kept[1], served[1])


def test_keeping_the_label_never_lengthens_the_way():
    clean, served = posteriors(500, 10), posteriors(500, 10, seed=1)
    kept = keep_top1(served, clean)
    assert (distance(kept, clean) <= distance(served, clean) + 1e-12).all()
    assert torch.equal(kept.argmax(1), clean.argmax(1))


def test_rows_are_divided_by_their_sums():
    rows = torch.tensor([[1.0, 4.0], [0.25, 0.25]])
    assert normalised(rows).tolist() == [[0.2, 0.8], [0.5, 0.5]]
