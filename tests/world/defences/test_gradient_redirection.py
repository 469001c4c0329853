"""Gradient redirection: slopes, directions and the surrogate they are taken from."""

import pytest
import torch
from torch.func import functional_call

from envs.defences.gradient_redirection import GradientRedirection, direction_of, log_slopes
from envs.defences.simplex import distance, redirect
from envs.defences.surrogate import OWN_DATA, SurrogatePlan, make_surrogate, query_images
from envs.errors import UnknownName
from envs.nets import registry


def small_network(seed=0):
    generator = torch.Generator().manual_seed(seed)
    network = registry.build(
        "resnet10-half", num_classes=10, image_shape=(1, 8, 8), generator=generator, mean=[0.3]
    )
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics of a network that was trained
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
    return network.eval()


def by_double_backpropagation(network, along, image):
    """Differentiate u.log p once by the parameters, then the product with z by u."""
    network.requires_grad_(True)
    logs = network(image.unsqueeze(0)).double().log_softmax(1)[0]
    weights = torch.zeros(10, dtype=torch.float64, requires_grad=True)
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad((weights * logs).sum(), parameters, create_graph=True)
    product = sum(
        (g.double() * (1 if along == "ones" else along[name].double())).sum()
        for name, g in zip(names, gradients, strict=True)
    )
    return torch.autograd.grad(product, weights)[0]


@pytest.mark.parametrize("kind", ["ones", "random", "parameters"])
def test_slopes_are_those_of_double_backpropagation(kind):
    network = small_network().double()
    along = direction_of(network, kind, torch.Generator().manual_seed(1))
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    slopes = log_slopes(network, images, along)
    for image, found in zip(images, slopes, strict=True):
        expected = by_double_backpropagation(network, along, image)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_slopes_are_the_limit_of_finite_differences():
    network = small_network().double()
    along = direction_of(network, "random", torch.Generator().manual_seed(1))
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(2)).double()
    step = 1e-6
    moved = {k: w + step * along[k] for k, w in network.named_parameters()}
    with torch.no_grad():
        after = functional_call(network, moved, (images,)).log_softmax(1)
        before = network(images).log_softmax(1)
    found = log_slopes(network, images, along)
    torch.testing.assert_close(found, (after - before) / step, rtol=1e-3, atol=1e-2)


def test_slopes_do_not_change_the_likelihood_of_the_surrogates_own_answer():
    network = small_network()
    along = direction_of(network, "ones", torch.Generator())
    images = torch.rand(16, 1, 8, 8)
    with torch.no_grad():
        own = network(images).double().softmax(1)
    slopes = log_slopes(network, images, along)
    scale = slopes.abs().amax(1)
    assert ((own * slopes).sum(1).abs() <= 1e-5 * scale).all()


def test_a_direction_covers_exactly_the_parameters():
    network = small_network()
    for kind in ("random", "parameters"):
        along = direction_of(network, kind, torch.Generator())
        assert list(along) == [name for name, _ in network.named_parameters()]


@pytest.mark.parametrize(
    "name", ["resnet10-half", "mobilenetv2-small", "densenet-small", "lenet5", "mlp-small"]
)
def test_the_short_way_along_ones_is_the_long_way(name):
    """Grouped, strided and biased layers included."""
    shape = (1, 28, 28)
    network = registry.build(
        name, num_classes=10, image_shape=shape, generator=torch.Generator().manual_seed(0)
    ).eval()
    network = network.double()
    images = torch.rand(3, *shape, generator=torch.Generator().manual_seed(1)).double()
    along = {key: torch.ones_like(weights) for key, weights in network.named_parameters()}
    short, long = log_slopes(network, images, "ones"), log_slopes(network, images, along)
    torch.testing.assert_close(short, long, rtol=1e-9, atol=1e-9)
    assert not any(module._forward_hooks for module in network.modules())


def test_no_budget_is_the_identity_and_the_budget_holds(digits_world):
    clean = digits_world.clean().double()
    for epsilon in (0.0, 0.3, 1.0):
        defence = GradientRedirection(epsilon=epsilon, surrogate="untrained", preserve_top1="off")
        victim = defence.harden(digits_world.victim(), digits_world.kit())
        served = digits_world.serve(defence, victim).posteriors.double()
        assert (distance(served, clean) <= epsilon + 1e-6).all()
        if epsilon == 0:
            torch.testing.assert_close(served, clean, atol=1e-7, rtol=0)


def test_the_receiver_ends_with_at_least_half_at_epsilon_1():
    torch.manual_seed(0)
    clean = torch.randn(200, 10).double().mul(3).softmax(1)
    worth = torch.randn(200, 10).double()
    served = redirect(clean, worth, 1.0)
    assert (served.gather(1, worth.argmax(1, keepdim=True)) >= 0.5 - 1e-12).all()


def test_serving_works_where_gradients_are_off(digits_world):
    defence = GradientRedirection(surrogate="untrained", preserve_top1="off")
    victim = defence.harden(digits_world.victim(), digits_world.kit())
    served = digits_world.serve(defence, victim).posteriors  # under no_grad, as in a game
    assert (served - digits_world.clean()).abs().sum(1).max() > 0.1
    assert not served.requires_grad


def test_it_costs_two_forward_passes_along_ones_and_three_otherwise(digits_world):
    for direction, passes in (("ones", 2), ("random", 3)):
        defence = GradientRedirection(surrogate="untrained", direction=direction)
        victim = defence.harden(digits_world.victim(), digits_world.kit())
        assert defence.overhead_macs / victim.profile.macs[-1] == pytest.approx(passes, abs=0.1)


@pytest.mark.parametrize(
    ("data", "share"),
    [
        ("generator", 0.9),
        pytest.param("smooth", 0.7, marks=pytest.mark.slow),
        pytest.param(OWN_DATA, 0.5, marks=pytest.mark.slow),
    ],
)
def test_a_trained_surrogate_learned_from_the_victim(digits_world, data, share):
    """It agrees with the victim on what it was trained on, which fresh weights do not."""
    victim, kit = digits_world.victim(), digits_world.kit()
    plan = SurrogatePlan("trained", data, epochs=8, schedule=10)
    trained = make_surrogate(victim, kit, plan)
    fresh = make_surrogate(victim, kit, SurrogatePlan("untrained"))
    other_draw = digits_world.kit(seed=1)  # of the same kind of images
    images = query_images(data, other_draw, victim.device).float() / 255
    answers = victim.posteriors(images)
    error = {
        name: float((surrogate.posteriors(images) - answers).abs().sum(1).mean())
        for name, surrogate in (("trained", trained), ("fresh", fresh))
    }
    assert error["trained"] < share * error["fresh"]


def test_a_surrogate_is_trained_once(digits_world):
    lines = []
    kit = digits_world.kit(seed=77, report=lines.append)
    plan = SurrogatePlan("trained", OWN_DATA, epochs=1, schedule=2)
    first, second = (make_surrogate(digits_world.victim(), kit, plan) for _ in range(2))
    assert lines == ["training: surrogate"]
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.equal(one, other)


def test_another_victim_gets_another_surrogate(digits_world):
    lines = []
    kit = digits_world.kit(seed=78, report=lines.append)
    plan = SurrogatePlan("trained", OWN_DATA, epochs=1, schedule=2)
    make_surrogate(digits_world.victim(), kit, plan)
    other = digits_world.victim()
    with torch.no_grad():
        other.network.backbone.classifier.bias.add_(0.1)
    make_surrogate(other, kit, plan)
    assert len(lines) == 2


def test_an_unknown_source_of_queries_is_refused(digits_world):
    defence = GradientRedirection(surrogate_data="generatr")
    with pytest.raises(UnknownName, match="generator"):
        defence.harden(digits_world.victim(), digits_world.kit())
