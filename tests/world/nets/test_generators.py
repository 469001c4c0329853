"""Generators and the discriminator: published sizes, ranges, randomness."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from envs.errors import ScenarioError
from envs.nets.generators import DcganDiscriminator, DcganGenerator, DfmeGenerator, tanh_to_unit


def count_parameters(network):
    return sum(weights.numel() for weights in network.parameters())


def _seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("shape", "latent", "parameters", "macs"),
    [
        ((3, 32, 32), 256, 2_329_091, 117e6),
        ((1, 28, 28), 128, 460_545, 22.3e6),
        ((1, 8, 8), 64, 72_641, 1.8e6),
    ],
)
def test_dfme_generators_have_the_published_size_and_cost(shape, latent, parameters, macs):
    network = DfmeGenerator(shape, generator=_seeded())
    assert (network.latent, count_parameters(network)) == (latent, parameters)
    flops = FlopCounterMode(display=False)
    with flops, torch.no_grad():
        network(network.draw(1, _seeded(1)).expand(1, -1))
    assert flops.get_total_flops() / 2 == pytest.approx(macs, rel=0.02)  # published to 2 digits


def test_a_narrow_dfme_generator_costs_a_fraction():
    network = DfmeGenerator((3, 32, 32), generator=_seeded(), width=0.125)
    channels = [layer.out_channels for layer in network.body if isinstance(layer, nn.Conv2d)]
    assert channels == [16, 8, 3]  # 128, 64, 3 at the published width
    # a linear layer 256 -> 16*8*8, convolutions 16*16*9, 16*8*9 and 8*3*9 with biases, two
    # normalisations of 16 channels and one of 8
    assert count_parameters(network) == 257 * 1024 + 2320 + 1160 + 219 + 2 * (16 + 16 + 8)
    images = network(network.draw(4, _seeded(1)))
    assert images.shape == (4, 3, 32, 32)


def test_the_dfms_pair_has_the_published_size_at_32_pixels():
    assert count_parameters(DcganGenerator((3, 32, 32), generator=_seeded())) == 3_573_824
    assert count_parameters(DcganDiscriminator((3, 32, 32), generator=_seeded())) == 2_759_424


@pytest.mark.parametrize("make", [DfmeGenerator, DcganGenerator])
@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (1, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64), (1, 24, 32)]
)
def test_generators_make_images_in_unit_range(make, shape):
    network = make(shape, generator=_seeded())
    z = network.draw(4, _seeded(1))
    images = network(z)
    assert images.shape == (4, *shape)
    assert images.dtype == torch.float32
    assert 0 <= images.min() < images.max() <= 1


@pytest.mark.parametrize("make", [DfmeGenerator, DcganGenerator])
def test_the_image_is_the_squashed_pre_activation(make):
    network = make((1, 8, 8), generator=_seeded()).eval()
    z = network.draw(4, _seeded(1))
    raw = network.pre_activation(z)
    torch.testing.assert_close(network(z), (torch.tanh(raw) + 1) / 2)


def test_squashing_never_leaves_the_unit_range():
    extreme = torch.tensor([-1e9, -9.02, 0.0, 9.02, 1e9])
    assert tanh_to_unit(extreme).tolist()[::4] == [0.0, 1.0]
    assert ((tanh_to_unit(extreme) >= 0) & (tanh_to_unit(extreme) <= 1)).all()
    assert tanh_to_unit(extreme)[2] == 0.5


def test_dfme_images_have_unit_variance_before_the_squashing():
    network = DfmeGenerator((3, 32, 32), generator=_seeded()).train()
    raw = network.pre_activation(network.draw(16, _seeded(1)))
    assert raw.mean((0, 2, 3)).abs().max() < 1e-4
    torch.testing.assert_close(raw.var((0, 2, 3)), torch.ones(3), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("make", [DfmeGenerator, DcganGenerator, DcganDiscriminator])
def test_weights_come_from_the_generator_only(make):
    state = torch.get_rng_state()
    first = make((1, 8, 8), generator=_seeded(3))
    assert torch.equal(torch.get_rng_state(), state)
    again, other = make((1, 8, 8), generator=_seeded(3)), make((1, 8, 8), generator=_seeded(4))
    weights = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in weights.items())
    assert any(not torch.equal(value, other.state_dict()[key]) for key, value in weights.items())


@pytest.mark.parametrize("make", [DfmeGenerator, DcganGenerator])
def test_a_reset_draws_all_weights_anew_in_place(make):
    network = make((1, 8, 8), generator=_seeded(3))
    network.train()(network.draw(8, _seeded()))  # moves the statistics
    network.reset(_seeded(7))
    fresh = make((1, 8, 8), generator=_seeded(7)).state_dict()
    assert all(torch.equal(value, fresh[key]) for key, value in network.state_dict().items())


@pytest.mark.parametrize("make", [DcganGenerator, DcganDiscriminator])
def test_dcgan_weights_start_with_a_spread_of_two_hundredths(make):
    network = make((3, 32, 32), generator=_seeded())
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.weight.numel() > 10_000:
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.03)
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.mean().item() == pytest.approx(1.0, abs=0.01)
            assert 0.01 < layer.weight.std().item() < 0.03


def test_an_untrained_dfme_generator_can_take_narrow_weights():
    network = DfmeGenerator((1, 28, 28), generator=_seeded(), weight_std=0.02)
    default = DfmeGenerator((1, 28, 28), generator=_seeded())
    assert torch.equal(network.project.weight, default.project.weight)
    convolutions = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    for layer in convolutions[:2]:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert all(not layer.bias.any() for layer in convolutions)
    norms = [layer for layer in network.body if isinstance(layer, nn.BatchNorm2d) and layer.affine]
    assert torch.cat([layer.weight for layer in norms]).std().item() == pytest.approx(0.02, rel=0.2)


def test_a_latent_of_another_length_may_be_asked_for():
    network = DfmeGenerator((1, 8, 8), generator=_seeded(), latent=17)
    assert network(network.draw(2, _seeded())).shape == (2, 1, 8, 8)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_the_discriminator_scores_images_in_unit_range(shape):
    network = DcganDiscriminator(shape, generator=_seeded()).eval()
    images = torch.rand(5, *shape, generator=_seeded(1))
    before = images.clone()
    torch.testing.assert_close(network(images), network.logits(images).sigmoid())
    assert network.logits(images).shape == (5,)
    assert torch.equal(images, before)


@pytest.mark.parametrize("make", [DfmeGenerator, DcganGenerator, DcganDiscriminator])
def test_sizes_that_doubling_cannot_reach_are_refused(make):
    with pytest.raises(ScenarioError, match="sides divisible by 4, got 30x30"):
        make((1, 30, 30), generator=_seeded())
