"""Every defence moves answers the way its idea says, and not the opposite way.

Judged at the level of the class by what the authors' formula is to raise or to lower, computed here
by another way: by autograd, or by trying every alternative.
"""

import itertools

import pytest
import torch
from torch.func import functional_call

from envs.defences.adaptive_misinformation import AdaptiveMisinformation
from envs.defences.gradient_redirection import GradientRedirection
from envs.defences.label_preserving import MARGIN
from envs.defences.modelguard import ModelGuardW
from envs.defences.prediction_poisoning import PredictionPoisoning
from envs.defences.randp import RandP
from envs.defences.reverse_sigmoid import ReverseSigmoid
from envs.defences.simplex import redirect
from envs.defences.truncation import Truncation

ROWS = 12


def hardened(world, defence):
    return defence, defence.harden(world.victim(), world.kit())


def served(world, defence, images=None):
    defence, victim = hardened(world, defence)
    return world.serve(defence, victim, images).posteriors.double()


def steered(network, image, answer, along):
    """Return <G'y', z>: how far a step of a clone's ascent on y' goes along z, by autograd."""
    parameters = {name: w.detach().requires_grad_() for name, w in network.named_parameters()}
    logs = functional_call(network, parameters, (image.unsqueeze(0),)).double().log_softmax(1)[0]
    slopes = torch.autograd.grad((answer * logs).sum(), list(parameters.values()))
    return sum(
        float((slope * (1 if along == "ones" else along[name])).sum())
        for name, slope in zip(parameters, slopes, strict=True)
    )


@pytest.mark.parametrize(
    "direction", ["ones", pytest.param("random", marks=pytest.mark.slow), "parameters"]
)
def test_grad_steers_whoever_trains_on_its_answers_along_its_direction(digits_world, direction):
    defence, victim = hardened(
        digits_world, GradientRedirection(surrogate="untrained", epsilon=0.5, direction=direction)
    )
    images = digits_world.images[:: 64 // ROWS][:ROWS]
    answers = digits_world.serve(defence, victim, images).posteriors.double()
    clean = digits_world.clean(images).double()
    network, along = defence._surrogate.network, defence._along
    for image, before, after in zip(images, clean, answers, strict=True):
        gain = steered(network, image, after, along) - steered(network, image, before, along)
        assert gain > 0
        # to no other class can the same budget be moved for more
        for receiver in torch.eye(10, dtype=torch.float64):
            other = redirect(before.unsqueeze(0), receiver.unsqueeze(0), 0.5)[0]
            rival = steered(network, image, other, along) - steered(network, image, before, along)
            assert gain >= rival - 1e-3 * abs(gain)


def turned(believed, clean, answer):
    """Return the published objective, |G'y'/|G'y'| - G'y/|G'y||^2, with G'y = p - y on logits."""
    old, new = (believed - each for each in (clean, answer))
    return (new / new.norm() - old / old.norm()).square().sum()


def test_p_poison_turns_the_gradient_as_far_as_one_class_can(digits_world):
    defence, victim = hardened(digits_world, PredictionPoisoning(epsilon=0.5))
    images = digits_world.images
    answers = digits_world.serve(defence, victim).posteriors.double()
    clean = digits_world.clean().double()
    believed = defence._surrogate.posteriors(images)
    towards = (answers - clean).argmax(1)
    for p, y, answer, chosen in zip(believed, clean, answers, towards, strict=True):
        values = torch.stack([turned(p, y, one) for one in torch.eye(10, dtype=torch.float64)])
        assert float(values[chosen]) >= float(values.max()) - 1e-4
        assert turned(p, y, answer) > 1e-3
        assert turned(p, y, y) == 0


def test_p_poison_argmax_keeps_the_label_and_turns_the_gradient_all_the_same(digits_world):
    defence, victim = hardened(
        digits_world, PredictionPoisoning(epsilon=0.5, oracle="argmax-preserving")
    )
    images = digits_world.images[:: 64 // ROWS][:ROWS]
    answers = digits_world.serve(defence, victim, images).posteriors.double()
    clean = digits_world.clean(images).double()
    believed = defence._surrogate.posteriors(images)
    assert torch.equal(answers.argmax(1), clean.argmax(1))
    sets = torch.tensor(list(itertools.product((0.0, 1.0), repeat=10)), dtype=torch.float64)
    for p, y, answer in zip(believed, clean, answers, strict=True):
        shares = sets[sets[:, y.argmax()] == 1]
        shares = shares / shares.sum(1, keepdim=True)
        values = torch.stack([turned(p, y, share) for share in shares])
        best = shares[values.argmax()]
        # the answer lies on the way to it
        assert torch.cosine_similarity(answer - y, best - y, dim=0) > 0.999


def test_randp_takes_from_all_and_gives_to_one_class_that_is_not_the_label(digits_world):
    answers = served(digits_world, RandP(epsilon=0.6))
    clean = digits_world.clean().double()
    gains = answers - clean
    assert ((gains > 1e-9).sum(1) == 1).all()
    receiver = gains.argmax(1)
    assert (receiver != clean.argmax(1)).all()
    assert len(receiver.unique()) > 5
    label = clean.argmax(1, keepdim=True)
    torch.testing.assert_close(answers.gather(1, label), 0.7 * clean.gather(1, label))


def test_noise_on_logits_only_raises_them_before_normalisation(digits_world):
    """Uniform noise of the published baseline lies in [0, 2 radius / K^(1/p)]: no logit falls."""
    defence, _ = hardened(digits_world, RandP(variant="noise", radius=3.0))
    clean = digits_world.clean().double()

    class Serving:
        images, strength = digits_world.images, 1.0
        generator = torch.Generator().manual_seed(0)

    noisy = defence.perturb(clean, Serving())
    assert (noisy >= clean.clamp(1e-7, 1 - 1e-7) - 1e-12).all()
    shift = torch.logit(noisy) - torch.logit(clean, eps=1e-7)
    assert float(shift.norm(dim=1).max()) <= 3.0 + 1e-6
    assert float(shift.norm(dim=1).max()) > 2.5


def test_reverse_sigmoid_lowers_what_is_above_a_half_and_raises_what_is_below(digits_world):
    """On three classes, gamma 1: y - 0.4 (y - 1/2), then normalised."""
    clean = torch.tensor([[0.8, 0.15, 0.05]]).double()

    class Serving:
        strength = 1.0

    found = ReverseSigmoid(beta=0.4, gamma=1.0).perturb(clean, Serving())
    torch.testing.assert_close(found, torch.tensor([[0.68, 0.29, 0.23]]).double())
    answers = served(digits_world, ReverseSigmoid(beta=0.4, gamma=1.0))
    clean = digits_world.clean().double()
    sure = clean.amax(1) > 0.6
    assert sure.any()
    assert (answers.amax(1) < clean.amax(1))[sure].all()


def test_the_misinformer_is_wrong_and_the_detector_unsure_of_outliers(digits_world):
    defence, _ = hardened(digits_world, AdaptiveMisinformation(epochs=6, ood="uniform"))
    own = digits_world.data.train.images()
    labels = digits_world.data.train.labels
    told = defence._liar.posteriors(own).gather(1, labels[:, None])
    assert float(told.mean()) < 0.09  # guessing has 0.1; one that is right 0.9
    noise = torch.rand((200, 1, 8, 8), generator=torch.Generator().manual_seed(9))
    sure, unsure = (defence._judge.posteriors(images).amax(1) for images in (own, noise))
    assert float(unsure.mean()) < 0.5 < float(sure.mean())


def test_misinformation_replaces_answers_below_the_gate_and_no_others(digits_world):
    defence, victim = hardened(
        digits_world, AdaptiveMisinformation(epochs=1, detector="victim", gate=0.8)
    )
    answers = digits_world.serve(defence, victim).posteriors.double()
    clean = digits_world.clean().double()
    confidence = clean.amax(1)
    lie = defence._liar.posteriors(digits_world.images)
    for part, expected in ((confidence < 0.78, lie), (confidence > 0.82, clean)):
        assert part.any()
        torch.testing.assert_close(answers[part], expected[part], atol=1e-5, rtol=0)


def test_modelguard_w_tells_less_of_the_clean_answer_than_it_told(digits_world):
    """Its programme minimises sum y'_k log y_k, the expected log-likelihood of a clean answer."""
    for preserve in ("on", "off"):
        answers = served(digits_world, ModelGuardW(epsilon=0.5, preserve_top1=preserve))
        clean = digits_world.clean().double()
        logs = clean.clamp_min(1e-12).log()
        lead = clean.topk(2).values
        free = lead[:, 0] - lead[:, 1] > 1e-3
        assert ((answers * logs).sum(1) < (clean * logs).sum(1))[free].all()


def test_truncation_takes_from_small_entries_and_gives_to_large_ones(digits_world):
    answers, clean = served(digits_world, Truncation(top=3)), digits_world.clean().double()
    rank = clean.argsort(1, descending=True).argsort(1)
    assert (answers[rank >= 3] == 0).all()
    assert (answers >= clean - 1e-7)[rank < 3].all()


@pytest.mark.parametrize(
    "defence",
    [
        RandP(epsilon=1.0, preserve_top1="on"),
        PredictionPoisoning(objmax=False, epsilon=1.0, preserve_top1="on"),
        ModelGuardW(epsilon=1.0),
    ],
    ids=lambda defence: type(defence).__name__,
)
def test_a_label_that_is_kept_leads_by_the_margin(digits_world, defence):
    """Float32 rounds by 6e-8; without a margin the two largest would be equal within that."""
    answers, clean = served(digits_world, defence), digits_world.clean().double()
    label = clean.argmax(1, keepdim=True)
    lead = clean.topk(2).values
    clear = lead[:, 0] - lead[:, 1] > 2 * MARGIN
    others = answers.scatter(1, label, -1.0).amax(1)
    gap = answers.gather(1, label).squeeze(1) - others
    assert (gap[clear] >= MARGIN - 2e-7).all()
    assert float(gap[clear].min()) < 2 * MARGIN  # the budget was used up to there
