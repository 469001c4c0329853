"""Random perturbation: its distance, its targets, its chance."""

import pytest
import torch
from scipy.stats import chisquare

from envs.defences.randp import RandP, add_to_logits, mix, onto_ball, wrong_classes
from envs.defences.simplex import distance


def posteriors(count, classes):
    torch.manual_seed(0)
    alpha = torch.full((classes,), 0.3, dtype=torch.float64)
    return torch.distributions.Dirichlet(alpha).sample((count,))


@pytest.mark.parametrize("epsilon", [0.1, 0.5, 1.0])
def test_the_distance_is_epsilon_times_one_minus_the_target(epsilon):
    clean = posteriors(2000, 10)
    targets = wrong_classes(clean, torch.rand(2000, 1).double())
    moved = distance(mix(clean, targets, epsilon), clean)
    expected = epsilon * (1 - clean.gather(1, targets).squeeze(1))
    torch.testing.assert_close(moved, expected, atol=1e-9, rtol=0)


def test_targets_are_uniform_over_the_wrong_classes():
    draws = 45_000
    clean = torch.zeros(draws, 10).double()
    clean[:, 3] = 1
    uniforms = torch.rand(draws, 1, generator=torch.Generator().manual_seed(0)).double()
    counts = torch.bincount(wrong_classes(clean, uniforms).squeeze(1), minlength=10)
    assert counts[3] == 0
    others = torch.cat((counts[:3], counts[4:])).numpy()
    assert chisquare(others).pvalue > 0.001


def test_the_largest_uniform_number_still_names_a_class():
    clean = torch.tensor([[0.1, 0.2, 0.7], [0.7, 0.2, 0.1]]).double()
    almost_one = torch.full((2, 1), 1 - 2.0**-53).double()
    assert wrong_classes(clean, almost_one).squeeze(1).tolist() == [1, 2]


def test_the_label_flips_where_the_lead_over_the_target_is_small():
    """Specified: iff y_top - y_t < epsilon / (2 - epsilon)."""
    clean = posteriors(4000, 10)
    targets = wrong_classes(clean, torch.rand(4000, 1).double())
    top = clean.amax(1) - clean.gather(1, targets).squeeze(1)
    flips = mix(clean, targets, 0.5).argmax(1) != clean.argmax(1)
    assert torch.equal(flips, top < 0.5 / 1.5)


def test_hash_repeats_exactly_and_fresh_does_not(digits_world):
    for randomness, repeats in (("hash", True), ("fresh", False)):
        for variant in ("target", "noise"):
            defence = RandP(variant=variant, randomness=randomness, preserve_top1="off")
            victim = defence.harden(digits_world.victim(), digits_world.kit())
            generator = torch.Generator().manual_seed(0)
            first, second = (
                digits_world.serve(defence, victim, seed=seed).posteriors for seed in (1, 2)
            )
            assert torch.equal(first, second) == repeats
            assert generator.initial_seed() == 0


def test_hash_has_a_secret(digits_world):
    answers = []
    for seed in (0, 1):
        defence = RandP(randomness="hash", preserve_top1="off")
        victim = defence.harden(digits_world.victim(), digits_world.kit(seed))
        answers.append(digits_world.serve(defence, victim).posteriors)
    assert not torch.equal(*answers)


def test_the_ball_holds_projected_noise_and_leaves_the_rest():
    torch.manual_seed(0)
    rows = torch.randn(300, 8).double()
    for norm in (1, 2):
        projected = onto_ball(rows, 2.5, norm)
        lengths = projected.norm(p=norm, dim=1)
        inside = rows.norm(p=norm, dim=1) <= 2.5
        torch.testing.assert_close(projected[inside], rows[inside])
        torch.testing.assert_close(
            lengths[~inside], torch.full((int((~inside).sum()),), 2.5).double()
        )


def test_projection_on_the_l1_ball_by_hand():
    """Of (3, 1) the nearest point with |x| + |y| <= 2 is (2, 0)."""
    rows = torch.tensor([[3.0, 1.0], [-3.0, 1.0], [1.0, 1.0]]).double()
    expected = torch.tensor([[2.0, 0.0], [-2.0, 0.0], [1.0, 1.0]]).double()
    torch.testing.assert_close(onto_ball(rows, 2.0, 1), expected)


def test_no_shift_of_logits_is_the_identity():
    clean = posteriors(50, 10).clamp(1e-6, 1 - 1e-6)
    torch.testing.assert_close(add_to_logits(clean, torch.zeros(50, 10).double()), clean)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"epsilon": 2.5}, "from 0 to 2"),
        ({"variant": "noise", "epsilon": 0.5}, "radius"),
        ({"radius": 1.0}, "epsilon"),
        ({"randomness": "new"}, "'fresh' or 'hash'"),
        ({"preserve_top1": "yes"}, "'label_only'"),
    ],
)
def test_a_wrong_parameter_says_what_was_expected(params, message):
    with pytest.raises(ValueError, match=message):
        RandP(**params)
