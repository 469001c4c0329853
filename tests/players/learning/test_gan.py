"""The GAN of hard-label attacks: who is drawn where, by the logits of a discriminator by hand."""

import math

import pytest
import torch

from agents.learning.gan import Gan
from envs.seeding import Streams

SHAPE = (1, 8, 8)


@pytest.fixture
def gan():
    return Gan(SHAPE, generator=Streams(0).torch("gan"), rate=2e-3)


class Bright(torch.nn.Module):
    """A discriminator to which bright images are real; `logits` of the mean pixel."""

    def __init__(self):
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(4.0))

    def logits(self, images):
        return self.slope * (images.mean((1, 2, 3)) - 0.5)


def test_the_adversarial_loss_is_minus_the_logarithm_of_being_taken_for_real(gan):
    gan.discriminator = Bright()
    dark, bright = torch.zeros(3, *SHAPE), torch.ones(3, *SHAPE)
    # -log sigmoid(2) and -log sigmoid(-2)
    assert gan.adversarial(bright).item() == pytest.approx(math.log(1 + math.exp(-2)))
    assert gan.adversarial(dark).item() == pytest.approx(math.log(1 + math.exp(2)))


def test_the_generator_is_drawn_to_what_the_discriminator_takes_for_real(gan):
    gan.discriminator = Bright()
    before = float(gan.sample(200).mean())
    for _ in range(30):
        gan.synthesiser.descend(gan.adversarial(gan.draw(32)))
    assert float(gan.sample(200).mean()) > before + 0.05


def test_the_discriminator_learns_which_images_are_of_the_pool(gan):
    real, drawn = torch.full((32, *SHAPE), 0.9), torch.full((32, *SHAPE), 0.1)
    real += 0.05 * torch.randn(real.shape, generator=Streams(1).torch("real"))
    drawn += 0.05 * torch.randn(drawn.shape, generator=Streams(1).torch("drawn"))
    losses = [gan.discriminate(real, drawn) for _ in range(20)]
    assert float(losses[-1]) < 0.3 < float(losses[0])
    with torch.no_grad():
        assert float(gan.discriminator(real).mean()) > 0.8
        assert float(gan.discriminator(drawn).mean()) < 0.2


def test_the_discriminators_loss_by_hand_moves_no_generator(gan):
    gan.discriminator = Bright()
    images = gan.draw(4)
    loss = gan.discriminate(torch.ones(4, *SHAPE), torch.zeros(4, *SHAPE))
    # real at logit 2, generated at -2: each costs log(1 + e^-2)
    assert float(loss) == pytest.approx(2 * math.log(1 + math.exp(-2)))
    gan.discriminate(torch.ones(4, *SHAPE), images)
    assert all(weights.grad is None for weights in gan.synthesiser.network.parameters())
