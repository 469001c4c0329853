"""The terms of the fortress's objective against numbers computed by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from envs.training import losses
from envs.training.probes import DetailReader, LabelProbe, RunningMeans, thumbnails


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_rate_is_the_analytic_divergence_of_two_gaussians():
    mean = torch.tensor([[1.0, -2.0], [0.0, 0.0]])
    log_variance = torch.tensor([[0.0, math.log(2.0)], [0.0, 0.0]])
    # 1/2 (1 + 1 - 0 - 1) + 1/2 (4 + 2 - log 2 - 1)
    expected = torch.tensor([0.5 + 0.5 * (5 - math.log(2)), 0.0])
    assert torch.allclose(losses.gaussian_rate(mean, log_variance), expected)
    coded = torch.distributions.Normal(mean, (log_variance / 2).exp())
    divergence = torch.distributions.kl_divergence(coded, torch.distributions.Normal(0.0, 1.0))
    assert torch.allclose(losses.gaussian_rate(mean, log_variance), divergence.sum(1))


def test_the_rate_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 4\)"):
        losses.gaussian_rate(torch.zeros(2, 3), torch.zeros(2, 4))


def test_an_answers_entropy_lies_between_certainty_and_the_uniform_answer():
    logits = torch.tensor(
        [[0.0, 0.0, 0.0, 0.0], [90.0, 0.0, 0.0, 0.0], [math.log(3), 0.0, -90, -90]]
    )
    expected = [math.log(4), 0.0, -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))]
    assert torch.allclose(losses.answer_entropy(logits), torch.tensor(expected), atol=1e-6)


def test_entropies_push_own_images_deep_and_ood_ones_out():
    own = [losses.entropy_sign(e, 5, ood=False) for e in range(5)]
    ood = [losses.entropy_sign(e, 5, ood=True) for e in range(5)]
    assert own == [-1, -1, -1, -1, 1]
    assert ood == [1, 1, 1, 1, -1]
    with pytest.raises(ValueError, match="from 0 to 4"):
        losses.entropy_sign(5, 5, ood=False)


def test_the_released_loss_is_that_of_a_hand_computed_example():
    # two exits, one image, true label 1: answers (1/2, 1/2) and (3/4, 1/4)
    logits = [torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])]
    label = torch.tensor([1])
    entropies = math.log(2), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    costs = math.log(2) + math.log(4)
    own = losses.released_loss(logits, label, alpha=(0.1, 0.1), ood=False)
    ood = losses.released_loss(logits, label, alpha=(0.1, 0.1), ood=True)
    assert float(own) == pytest.approx(costs - 0.1 * entropies[0] + 0.1 * entropies[1])
    assert float(ood) == pytest.approx(costs + 0.1 * entropies[0] - 0.1 * entropies[1])


def _fitted_probe(codes, labels):
    probe = LabelProbe(codes.shape[1], 4, generator=_generator())
    for _ in range(120):
        probe.fit(codes, labels)
    return probe


def test_the_contrastive_bound_is_about_zero_for_independent_codes():
    codes = torch.randn(2000, 6, generator=_generator(1))
    labels = torch.randint(4, (2000,), generator=_generator(2))
    bound = losses.clamped_club(_fitted_probe(codes, labels)(codes), labels)
    assert 0 <= float(bound) < 0.02


def test_the_contrastive_bound_is_above_the_information_of_dependent_codes():
    labels = torch.randint(4, (2000,), generator=_generator(2))
    codes = 4 * F.one_hot(labels, 6).float() + torch.randn(2000, 6, generator=_generator(1))
    bound = float(losses.clamped_club(_fitted_probe(codes, labels)(codes), labels))
    assert math.log(4) * 0.95 < bound <= -losses.LOG_FLOOR


def test_the_contrastive_bound_cannot_grow_without_limit_nor_fall_below_zero():
    sure = torch.tensor([[0.0, -1e6], [-1e6, 0.0]])
    assert float(losses.clamped_club(sure, torch.tensor([0, 1]))) == pytest.approx(
        -losses.LOG_FLOOR / 2
    )
    assert float(losses.clamped_club(sure, torch.tensor([1, 0]))) == 0


def test_a_probe_sends_its_gradient_to_the_codes_and_keeps_none():
    probe = LabelProbe(3, 2, generator=_generator())
    codes = torch.randn(8, 3, generator=_generator(), requires_grad=True)
    losses.clamped_club(probe(codes), torch.arange(8) % 2).backward()
    assert codes.grad is not None
    assert all(weights.grad is None for weights in probe.parameters())


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 30))
def test_marginal_information_lies_between_zero_and_log_k(seed, sharpness):
    posteriors = (sharpness * torch.randn(50, 7, generator=_generator(seed))).softmax(1)
    labels = torch.randint(7, (50,), generator=_generator(seed + 1))
    value = float(losses.marginal_information(posteriors, labels))
    assert -1e-6 <= value <= math.log(7) + 1e-5


def test_marginal_information_is_zero_for_constant_and_full_for_copied_answers():
    labels = torch.arange(50) % 5
    constant = torch.tensor([[0.7, 0.1, 0.1, 0.05, 0.05]]).expand(50, 5)
    assert float(losses.marginal_information(constant, labels)) == pytest.approx(0, abs=1e-6)
    copied = F.one_hot(labels, 5).float()
    assert float(losses.marginal_information(copied, labels)) == pytest.approx(math.log(5))


def test_marginal_information_has_a_finite_gradient_at_certain_answers():
    logits = (F.one_hot(torch.arange(10) % 5, 5) * 500.0).requires_grad_()
    losses.marginal_information(logits.softmax(1), torch.arange(10) % 5).backward()
    assert torch.isfinite(logits.grad).all()


def test_uniform_answers_have_the_least_uniform_cross_entropy():
    assert float(losses.uniform_cross_entropy(torch.zeros(3, 5))) == pytest.approx(math.log(5))
    other = torch.randn(3, 5, generator=_generator())
    assert float(losses.uniform_cross_entropy(other)) > math.log(5)


def test_collapse_is_worst_where_all_answers_share_a_class():
    shared = F.one_hot(torch.zeros(6, dtype=torch.int64), 3).float()
    spread = F.one_hot(torch.arange(6) % 3, 3).float()
    assert float(losses.collapse(shared)) == pytest.approx(0, abs=1e-6)
    assert float(losses.collapse(spread)) == pytest.approx(-math.log(3))


def test_infonce_never_exceeds_the_logarithm_of_the_batch():
    codes = torch.randn(32, 8, generator=_generator())
    unrelated = torch.randn(32, 8, generator=_generator(1))
    same, other = losses.info_nce(codes, codes), losses.info_nce(codes, unrelated)
    assert 0.9 * math.log(32) < float(same) <= math.log(32)
    assert float(other) < 0.5


def test_infonce_of_three_codes_by_hand_and_a_reader_that_pulls_them_to_their_details():
    codes = torch.eye(3)
    # cosines 1 to the own detail and 0 to the others
    matched = math.log(3) - math.log(math.e + 2) + 1
    assert losses.info_nce(codes, 2 * codes, temperature=1.0).item() == pytest.approx(matched)
    opposed = math.log(3) - math.log(1 / math.e + 2) - 1
    assert losses.info_nce(codes, -codes, temperature=1.0).item() == pytest.approx(opposed)

    reader = DetailReader(3, 3, contrastive=True, generator=_generator())
    moved = torch.randn(3, 3, generator=_generator(1)).requires_grad_()

    def own_less_others():
        seen, known = F.normalize(reader.read(moved)), F.normalize(reader.key(codes))
        cosines = (seen @ known.T).detach()
        return float(cosines.diagonal().mean() - cosines.mean())

    before = own_less_others()
    for _ in range(20):
        (slope,) = torch.autograd.grad(reader(moved, codes), moved)
        with torch.no_grad():
            moved -= 0.5 * slope
    assert own_less_others() > before + 0.05


def test_thumbnails_are_standardised_by_pixel():
    small = thumbnails(torch.rand(64, 3, 28, 28, generator=_generator()))
    assert small.shape == (64, 49)
    assert torch.allclose(small.mean(0), torch.zeros(49), atol=1e-5)
    assert torch.allclose(small.square().mean(0), torch.ones(49), atol=1e-4)
    assert thumbnails(torch.full((4, 1, 8, 8), 0.5)).eq(0).all()


def test_a_reader_of_detail_finds_what_a_code_keeps():
    small = torch.randn(256, 16, generator=_generator())
    noise = torch.randn(256, 16, generator=_generator(1))
    for contrastive in (False, True):
        found = []
        for codes in (small, noise):
            reader = DetailReader(16, 16, contrastive=contrastive, generator=_generator(2))
            optimiser = torch.optim.Adam(reader.parameters(), lr=1e-2)
            for _ in range(100):
                loss = reader(codes, small)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            found.append(loss.item())
        assert found[0] < found[1] - 0.5


def test_running_class_means_remember_earlier_batches():
    running, posteriors = RunningMeans(decay=0.9), torch.eye(2)
    running.update(*losses.class_means(posteriors, torch.tensor([0, 0])))
    means, shares = running.update(*losses.class_means(posteriors, torch.tensor([1, 1])))
    # class 0 was seen before and keeps its mean; class 1 is new and takes the batch's
    assert torch.allclose(means, torch.full((2, 2), 0.5))
    assert torch.allclose(shares, torch.tensor([0.9, 0.1]))
    means, _ = running.update(*losses.class_means(posteriors[:1], torch.tensor([0])))
    assert torch.allclose(means[0], torch.tensor([0.55, 0.45]))
