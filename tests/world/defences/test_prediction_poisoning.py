"""Prediction poisoning: the closed form against brute force, and its oracles."""

import itertools

import pytest
import torch

from envs.defences import prediction_poisoning
from envs.defences.prediction_poisoning import (
    PredictionPoisoning,
    best_subset,
    extreme_class,
)
from envs.defences.simplex import distance, towards


def posteriors(count, classes, concentration=0.5, seed=0):
    torch.manual_seed(seed)
    alpha = torch.full((classes,), concentration, dtype=torch.float64)
    return torch.distributions.Dirichlet(alpha).sample((count,))


def jacobian(weight, bias, hidden):
    """Return (K, parameters): the gradient of -log p(k) by the last layer's weight, by autograd."""
    weight = weight.clone().requires_grad_()
    logs = (weight @ hidden + bias).log_softmax(0)
    rows = [torch.autograd.grad(-log, weight, retain_graph=True)[0].flatten() for log in logs]
    return torch.stack(rows)


def objective(rows, candidate, clean):
    """The published objective: squared distance of the two normalised gradients."""
    turned, true = rows.T @ candidate, rows.T @ clean
    return (turned / turned.norm() - true / true.norm()).square().sum()


@pytest.mark.parametrize("classes", [3, 10])
def test_the_extreme_class_is_that_of_the_explicit_jacobian(classes):
    for case in range(40):
        torch.manual_seed(case)
        weight, hidden = torch.randn(classes, 6).double(), torch.randn(6).double()
        clean = posteriors(1, classes, seed=case)
        rows = jacobian(weight, torch.zeros(classes).double(), hidden)
        values = torch.stack(
            [objective(rows, one_hot, clean[0]) for one_hot in torch.eye(classes).double()]
        )
        believed = (weight @ hidden).softmax(0).unsqueeze(0)
        assert int(extreme_class(clean, believed)) == int(values.argmax())


def test_the_closed_form_of_the_objective_is_two_minus_two_cosines():
    for case in range(20):
        torch.manual_seed(case)
        weight, hidden = torch.randn(10, 6).double(), torch.randn(6).double()
        clean, candidate = posteriors(2, 10, seed=case)
        p = (weight @ hidden).softmax(0)
        closed = 2 - 2 * torch.cosine_similarity(p - candidate, p - clean, dim=0)
        brute = objective(jacobian(weight, torch.zeros(10).double(), hidden), candidate, clean)
        assert float(closed) == pytest.approx(float(brute), abs=1e-6)


@pytest.mark.parametrize("classes", [4, 7])
def test_the_best_subset_is_that_of_trying_all(classes):
    clean, believed = posteriors(30, classes), posteriors(30, classes, 2.0, seed=1)
    chosen = best_subset(clean, believed)
    for y, p, found in zip(clean, believed, chosen, strict=True):
        label = int(y.argmax())
        others = [k for k in range(classes) if k != label]
        candidates = []
        for size in range(classes):
            for members in itertools.combinations(others, size):
                share = torch.zeros(classes).double()
                share[list(members)] = 1
                share[label] = 1 + 1e-5
                candidates.append(share / share.sum())
        scores = [-torch.cosine_similarity(p - c, p - y, dim=0) for c in candidates]
        best = max(scores)
        own = -torch.cosine_similarity(p - found, p - y, dim=0)
        assert float(own) == pytest.approx(float(best), abs=1e-9)


def test_one_image_of_many_classes_is_not_tried_with_all_subsets(monkeypatch):
    monkeypatch.setattr(prediction_poisoning, "_of_all_subsets", None)
    found = best_subset(posteriors(1, 40), posteriors(1, 40, 2.0, seed=1))
    assert found.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("classes", [10, 30, 100])
@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_the_argmax_preserving_oracle_never_changes_a_label(classes, epsilon):
    clean, believed = posteriors(500, classes, 0.2), posteriors(500, classes, 2.0, seed=1)
    for opinion in (believed, None):
        served = towards(clean, best_subset(clean, opinion), epsilon)
        assert torch.equal(served.argmax(1), clean.argmax(1))
        assert torch.equal(served.float().argmax(1), clean.argmax(1))


def test_greedy_growth_is_at_least_as_good_as_any_pair_with_the_label():
    clean, believed = posteriors(20, 12), posteriors(20, 12, 2.0, seed=1)
    chosen = best_subset(clean, believed)
    own = -torch.cosine_similarity(believed - chosen, believed - clean, dim=1)
    label = clean.argmax(1)
    for other in range(12):
        pair = torch.zeros_like(clean)
        pair[:, other] = 1
        pair.scatter_(1, label.unsqueeze(1), 1 + 1e-5)
        pair /= pair.sum(1, keepdim=True)
        score = -torch.cosine_similarity(believed - pair, believed - clean, dim=1)
        assert (own >= score - 1e-9)[label != other].all()


def test_greedy_growth_considers_the_label_alone_as_all_sets_do():
    """A unanimous answer is farthest, in length, from a vertex near it only by other classes."""
    sharp = posteriors(50, 12, 50.0)  # nearly uniform: the label's vertex is the farthest
    alone = torch.zeros_like(sharp).scatter(1, sharp.argmax(1, keepdim=True), 1.0)
    torch.testing.assert_close(best_subset(sharp, None), alone, atol=0, rtol=0)


def test_without_objmax_the_least_likely_class_is_picked_on_1000_cases():
    clean = posteriors(1000, 10)
    assert torch.equal(extreme_class(clean, None), clean.argmin(1, keepdim=True))


def test_a_surrogate_without_opinion_picks_the_least_likely_class():
    clean = posteriors(1000, 10)
    uniform = torch.full_like(clean, 0.1)
    assert torch.equal(extreme_class(clean, uniform), clean.argmin(1, keepdim=True))


def test_a_surrogate_that_agrees_leaves_no_direction_to_turn():
    clean = posteriors(10, 10)
    assert torch.equal(extreme_class(clean, clean), clean.argmin(1, keepdim=True))


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0])
def test_the_budget_is_spent_unless_the_vertex_is_nearer(epsilon):
    clean, believed = posteriors(1000, 10, 0.2), posteriors(1000, 10, 2.0, seed=1)
    target = extreme_class(clean, believed)
    vertex = torch.zeros_like(clean).scatter(1, target, 1.0)
    moved = distance(towards(clean, vertex, epsilon), clean)
    assert (moved <= epsilon + 1e-9).all()
    # the line is left only where a = epsilon / (2 (1 - y_k)) would pass 1
    whole = epsilon / (2 * (1 - clean.gather(1, target).squeeze(1))) >= 1
    torch.testing.assert_close(moved[~whole], torch.full_like(moved[~whole], epsilon))


def test_10_000_images_of_100_classes_are_one_batched_call():
    clean, believed = posteriors(10_000, 100, 0.1), posteriors(10_000, 100, 2.0, seed=1)
    found = extreme_class(clean, believed)
    assert found.shape == (10_000, 1)
    sample = slice(0, 50)
    cosines = torch.cosine_similarity(
        believed[sample, None] - torch.eye(100).double(), (believed - clean)[sample, None], dim=2
    )
    assert torch.equal(found[sample, 0], cosines.argmin(1))


def test_only_the_objective_asks_a_surrogate(digits_world):
    macs = digits_world.victim().profile.macs[-1]
    for params, cost in (
        ({}, macs), ({"oracle": "argmax-preserving"}, macs), ({"objmax": False}, 0),
        ({"oracle": "argmin"}, 0), ({"oracle": "random"}, 0),
    ):  # fmt: skip
        defence = PredictionPoisoning(**params)
        defence.harden(digits_world.victim(), digits_world.kit())
        assert defence.overhead_macs == cost


def test_a_small_surrogate_costs_a_fiftieth_and_chooses_by_the_image_no_less(digits_world):
    """The untrained copy of the victim serves one wrong class to nearly every digit."""
    images = digits_world.data.test.images()
    clean = digits_world.victim().posteriors(images).double()
    commonest = {}
    for origin in ("untrained", "small"):
        defence = PredictionPoisoning(surrogate=origin)
        victim = defence.harden(digits_world.victim(), digits_world.kit(seed=3))
        classes = extreme_class(clean, defence._surrogate.posteriors(images)).squeeze(1)
        commonest[origin] = torch.bincount(classes, minlength=10).max().item() / len(classes)
        if origin == "small":
            assert defence.overhead_macs * 50 <= victim.profile.macs[-1]
    assert commonest["small"] <= commonest["untrained"] + 0.1


def test_a_surrogate_of_no_epochs_is_refused():
    with pytest.raises(ValueError, match="epochs of the surrogate"):
        PredictionPoisoning(surrogate="trained", surrogate_epochs=0)
